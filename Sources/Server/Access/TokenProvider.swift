internal import Auth
internal import Config
internal import Platform
internal import Replica
internal import Services
internal import TLS

/// What `--auth-token` asks for. etcd: `NewTokenProvider`.
enum TokenProvider: Sendable {
  case simple
  case signed(JSONWebTokens)
  case none

  private static let flag = "--auth-token"
  /// Of a key's file, certificates and all.
  private static let keyBytesMax = 1 << 20

  /// Reads the keys that it names.
  init(_ options: Options, _ log: Logger) throws(StartError) {
    let parts = options.authToken.split(separator: ",", omittingEmptySubsequences: false)
    var settings: [(name: String, value: String)] = []
    for part in parts.dropFirst() {
      let halves = part.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
      guard halves.count == 2, !settings.contains(where: { $0.name == halves[0] }) else {
        throw StartError("\(Self.flag): '\(part)' is no option, or one given twice")
      }
      settings.append((halves[0], halves[1]))
    }
    switch parts.first ?? "" {
    case "simple": self = .simple
    case "": self = .none
    case "jwt": self = .signed(try Self.signer(settings, log))
    case let kind: throw StartError("\(Self.flag): there is no kind of token '\(kind)'")
    }
  }

  private static func signer(
    _ settings: [(name: String, value: String)], _ log: Logger
  ) throws(StartError) -> JSONWebTokens {
    func value(_ name: String) -> String { settings.first { $0.name == name }?.value ?? "" }
    let known = ["sign-method", "pub-key", "priv-key", "ttl"]
    for setting in settings where !known.contains(setting.name) {
      log.warn("unknown JWT option", ("option", setting.name))
    }
    guard let method = SigningMethod(rawValue: value("sign-method")) else {
      throw StartError("\(flag): sign-method '\(value("sign-method"))' is not known")
    }
    var lifetime: UInt64 = 300_000_000_000
    if !value("ttl").isEmpty {
      guard let given = Settings.nanoseconds(value("ttl")) else {
        throw StartError("\(flag): ttl '\(value("ttl"))' is no duration")
      }
      lifetime = given
    }
    let privateKey = try file(value("priv-key"))
    let publicKey = try file(value("pub-key"))
    do {
      let key = try SigningKey.read(method, privateKey: privateKey, publicKey: publicKey)
      return JSONWebTokens(key: key, lifetime: Int64(clamping: lifetime / 1_000_000_000))
    } catch {
      let reason =
        switch error {
        case .missing: "neither priv-key nor pub-key holds a key"
        case .unreadable: "priv-key or pub-key holds no key for \(method.rawValue)"
        case .mismatch: "pub-key does not belong to priv-key"
        }
      throw StartError("\(flag): \(reason)")
    }
  }

  private static func file(_ path: String) throws(StartError) -> [UInt8]? {
    guard !path.isEmpty else { return nil }
    do throws(Errno) {
      let fd = try FileSystem.open(path, creates: false)
      defer { FileSystem.close(fd) }
      return try FileSystem.read(fd, at: 0, count: min(FileSystem.size(fd), keyBytesMax))
    } catch {
      throw StartError("\(flag): cannot read \(path): \(error)")
    }
  }

  var settings: TokenSettings {
    switch self {
    case .simple: TokenSettings(kind: .simple)
    case .signed(let tokens): TokenSettings(kind: .signed) { tokens.read($0, now: $1) }
    case .none: TokenSettings(kind: .none)
    }
  }

  /// The kind of token that `--auth-token` begins with.
  static func kind(_ options: Options) -> TokenKind {
    if options.authToken.isEmpty { return .none }
    return options.authToken.hasPrefix("jwt") ? .signed : .simple
  }
}
