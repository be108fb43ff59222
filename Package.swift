// swift-tools-version: 6.3
import PackageDescription

/// What each module may import. The one place where that is written; TidyTests holds every
/// `import` in Sources against it.
let layers: [(module: String, imports: [String])] = [
  // ground
  ("Basics", ["CBasics"]),
  ("Platform", ["Basics", "CLinux"]),
  // pure cores: no clock, file, thread, lock or randomness of their own
  ("Raft", ["Basics"]),
  ("WAL", ["Basics", "Raft"]),
  ("MVCC", ["Basics"]),
  ("Bolt", ["Basics", "MVCC"]),
  ("Lease", ["Basics"]),
  ("Auth", ["Basics"]),
  ("GRPC", ["Basics", "CZlib"]),
  ("HTTP1", ["Basics"]),
  // C libraries, each behind one owner
  ("API", ["Basics", "CEtcdProtos", "CProtobufC"]),
  ("Peers", ["Basics", "Raft", "API", "HTTP1"]),
  ("HTTP2", ["Basics", "CNGHTTP2"]),
  ("TLS", ["Basics", "COpenSSL"]),
  ("LMDB", ["Basics", "MVCC", "CLMDB"]),
  ("Bcrypt", ["Basics", "CCrypt"]),
  ("YAML", ["CYAML"]),
  // one member, whole and deterministic
  ("Membership", ["Basics", "Raft", "API"]),
  ("Replica", ["Basics", "Raft", "MVCC", "Lease", "Auth", "Membership", "API"]),
  ("Services", ["Basics", "MVCC", "Auth", "API", "GRPC", "Membership", "Replica"]),
  ("Gateway", ["Basics", "API", "GRPC", "Services"]),
  // shells
  ("Config", ["Basics", "Membership", "YAML"]),
  (
    "Server",
    [
      "Basics", "Platform", "Raft", "WAL", "MVCC", "Bolt", "GRPC", "HTTP1", "API", "Peers",
      "HTTP2", "TLS", "LMDB", "Auth", "Bcrypt", "Membership", "Lease", "Replica", "Services",
      "Gateway", "Config",
    ]
  ),
  (
    "Simulator",
    ["Basics", "Raft", "WAL", "MVCC", "Lease", "API", "Membership", "Replica", "Services"]
  ),
]

/// C targets that hold code of ours or generated code, with what they need.
let cTargets: [(name: String, needs: [String])] = [
  ("CBasics", []),
  ("CLinux", []),
  ("CEtcdProtos", ["CProtobufC"]),
]

/// C libraries of the system: module map name, pkg-config name, Debian package.
let systemLibraries: [(name: String, pkgConfig: String, package: String)] = [
  ("CNGHTTP2", "libnghttp2", "libnghttp2-dev"),
  ("COpenSSL", "libcrypto", "libssl-dev"),
  ("CLMDB", "lmdb", "liblmdb-dev"),
  ("CZlib", "zlib", "zlib1g-dev"),
  ("CCrypt", "libcrypt", "libcrypt-dev"),
  ("CProtobufC", "libprotobuf-c", "libprotobuf-c-dev"),
  ("CYAML", "yaml-0.1", "libyaml-dev"),
]

/// What tests of a module need beyond what the module may import.
let testsNeed: [String: [String]] = [
  "Services": ["Raft", "Lease"], "WAL": ["Simulator"],
]

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableExperimentalFeature("Lifetimes"),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
]

/// Modules with a test target; in Replica's stead stand the tests of Services, which drive it.
let tested = [
  "Basics", "Platform", "Raft", "WAL", "MVCC", "Bolt", "Lease", "Auth", "GRPC", "HTTP1", "API",
  "Peers", "HTTP2", "TLS", "LMDB", "Bcrypt", "YAML", "Membership", "Services", "Gateway", "Config",
  "Server", "Simulator",
]

func dependencies(_ names: [String]) -> [Target.Dependency] { names.map { .byName(name: $0) } }

var targets: [Target] = layers.map { layer in
  .target(
    name: layer.module, dependencies: dependencies(layer.imports), swiftSettings: settings)
}
targets += cTargets.map { target in
  .target(
    name: target.name, dependencies: dependencies(target.needs),
    cSettings: [.unsafeFlags(["-O2"])])
}
targets += systemLibraries.map { library in
  .systemLibrary(
    name: library.name, pkgConfig: library.pkgConfig, providers: [.apt([library.package])])
}
targets += layers.filter { tested.contains($0.module) }.map { layer in
  .testTarget(
    name: "\(layer.module)Tests",
    dependencies: dependencies(
      [layer.module] + layer.imports + testsNeed[layer.module, default: []]),
    exclude: layer.module == "Raft" ? ["Transcripts"] : [], swiftSettings: settings)
}
targets += [
  .testTarget(name: "TidyTests", swiftSettings: settings),
  .executableTarget(
    name: "martlet", dependencies: dependencies(["Server", "Config", "Platform"]),
    swiftSettings: settings),
  .executableTarget(
    name: "martlet-sim", dependencies: dependencies(["Simulator"]), swiftSettings: settings),
]

let package = Package(name: "martlet", targets: targets)
