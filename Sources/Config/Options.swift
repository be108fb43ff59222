/// What one server runs with, checked.
public struct Options: Sendable {
  public var name: String
  public var dataDirectory: String
  public var walDirectory: String
  public var snapshotCount: UInt64
  public var snapshotCatchUpEntries: UInt64
  public var snapshotFilesMax: Int
  public var walFilesMax: Int
  public var heartbeatMilliseconds: Int
  public var electionMilliseconds: Int
  public var initialElectionTickAdvance: Bool
  public var preVote: Bool
  public var listenPeer: [Endpoint]
  public var listenClient: [Endpoint]
  public var advertisePeer: [Endpoint]
  public var advertiseClient: [Endpoint]
  public var initialCluster: [InitialMember]
  public var initialClusterToken: String
  public var isNewCluster: Bool
  /// The flag, if any, that has the first members found by discovery.
  public var discovery: String?
  /// Whether the first members or their token were given.
  public var namesCluster: Bool
  public var forceNewCluster: Bool
  public var strictReconfigCheck: Bool
  public var quotaBytes: Int64
  public var batchNanoseconds: UInt64
  public var batchOperationsMax: Int
  public var txnOperationsMax: Int
  public var requestBytesMax: Int
  public var streamsPerConnectionMax: UInt32
  public var keepaliveMinNanoseconds: UInt64
  public var keepaliveIntervalNanoseconds: UInt64
  public var keepaliveTimeoutNanoseconds: UInt64
  public var compaction: AutoCompaction
  public var leaseCheckpoint: Bool
  public var leaseCheckpointPersist: Bool
  public var progressNotifyNanoseconds: UInt64
  public var compactionKeysPerStep: Int
  /// An apply that takes longer is told.
  public var slowApplyNanoseconds: UInt64
  /// The store is defragmented when its file is larger than so many times what is in use; 0:
  /// only when asked for.
  public var defragmentFactor: Int
  public var syncsToDisk: Bool
  /// `simple`, `jwt,…` or nothing.
  public var authToken: String
  public var authTokenSeconds: UInt64
  public var bcryptCost: Int
  public var clientTLS: TLSOptions
  public var peerTLS: TLSOptions
  public var selfSignedYears: Int64
  public var reusesPort: Bool
  public var corruption: CorruptionOptions
  public var log: LogOptions
  public var http: HTTPOptions
  /// Flags that were given and that this build does not act on.
  public var ignored: [String]
  /// Things worth a line in the log: a message, and what it is about.
  public var notes: [(message: String, subject: String)]

  /// What `--auto-compaction-mode` and `--auto-compaction-retention` ask for.
  public enum AutoCompaction: Equatable, Sendable {
    case off
    case periodic(nanoseconds: UInt64)
    case revision(keep: Int64)
  }
}

extension Options {
  /// Checks `settings` as etcd does (server/embed/config.go Validate).
  /// Throws the first thing that does not fit, naming the flag.
  /// `defaultHost`: the address that others reach this machine by; asked for when it is needed.
  public init(
    _ settings: Settings, defaultHost: () -> String? = { nil }
  ) throws(ConfigError) {
    name = settings.text("name")
    let directory = settings.text("data-dir")
    dataDirectory = directory.isEmpty ? "\(name).etcd" : directory
    walDirectory = settings.text("wal-dir")
    snapshotCount = UInt64(clamping: max(1, settings.number("snapshot-count")))
    snapshotCatchUpEntries = UInt64(
      clamping: settings.number("experimental-snapshot-catchup-entries"))
    snapshotFilesMax = Int(settings.number("max-snapshots"))
    walFilesMax = Int(settings.number("max-wals"))
    heartbeatMilliseconds = Int(settings.number("heartbeat-interval"))
    electionMilliseconds = Int(settings.number("election-timeout"))
    initialElectionTickAdvance = settings.flag("initial-election-tick-advance")
    preVote = settings.flag("pre-vote")
    listenPeer = try Endpoint.list("listen-peer-urls", settings)
    listenClient = try Endpoint.list("listen-client-urls", settings)
    advertisePeer = try Endpoint.list("initial-advertise-peer-urls", settings)
    advertiseClient = try Endpoint.list("advertise-client-urls", settings)
    initialClusterToken = settings.text("initial-cluster-token")
    isNewCluster = settings.text("initial-cluster-state") == "new"
    discovery = ["discovery", "discovery-srv"].first { !settings.text($0).isEmpty }
    namesCluster =
      settings.isGiven("initial-cluster") || settings.isGiven("initial-cluster-token")
    forceNewCluster = settings.flag("force-new-cluster")
    strictReconfigCheck = settings.flag("strict-reconfig-check")
    quotaBytes = settings.number("quota-backend-bytes")
    if quotaBytes == 0 { quotaBytes = 2 << 30 }
    let interval = settings.duration("backend-batch-interval")
    batchNanoseconds = interval == 0 ? 100_000_000 : interval
    let limit = settings.number("backend-batch-limit")
    batchOperationsMax = limit <= 0 ? 10_000 : Int(limit)
    txnOperationsMax = Int(clamping: settings.number("max-txn-ops"))
    requestBytesMax = Int(clamping: settings.number("max-request-bytes"))
    streamsPerConnectionMax = UInt32(clamping: settings.number("max-concurrent-streams"))
    keepaliveMinNanoseconds = settings.duration("grpc-keepalive-min-time")
    keepaliveIntervalNanoseconds = settings.duration("grpc-keepalive-interval")
    keepaliveTimeoutNanoseconds = settings.duration("grpc-keepalive-timeout")
    compaction = try Self.autoCompaction(settings)
    leaseCheckpoint = settings.flag("experimental-enable-lease-checkpoint")
    leaseCheckpointPersist = settings.flag("experimental-enable-lease-checkpoint-persist")
    progressNotifyNanoseconds = settings.duration("experimental-watch-progress-notify-interval")
    compactionKeysPerStep = Int(
      clamping: max(1, settings.number("experimental-compaction-batch-limit")))
    slowApplyNanoseconds = settings.duration("experimental-warning-apply-duration")
    defragmentFactor = Int(clamping: settings.number("auto-defrag-factor"))
    syncsToDisk = !settings.flag("unsafe-no-fsync")
    authToken = settings.text("auth-token")
    let tokenSeconds = settings.number("auth-token-ttl")
    authTokenSeconds = tokenSeconds <= 0 ? 300 : UInt64(tokenSeconds)
    bcryptCost = Int(clamping: settings.number("bcrypt-cost"))
    clientTLS = try TLSOptions(client: settings)
    peerTLS = try TLSOptions(peer: settings)
    selfSignedYears = settings.number("self-signed-cert-validity")
    reusesPort = settings.flag("socket-reuse-port")
    corruption = CorruptionOptions(settings)
    log = try LogOptions(settings)
    http = try HTTPOptions(settings)
    ignored = Flag.all.filter { !$0.acts && settings.isGiven($0.name) }.map(\.name)
    notes = settings.notes
    initialCluster = []
    advertiseDefaultHost(defaultHost)
    initialCluster = try Self.initialCluster(settings, name: name, advertised: advertisePeer)
    try validate(settings)
    try validateTLS(settings)
  }

  private static func autoCompaction(_ settings: Settings) throws(ConfigError) -> AutoCompaction {
    let mode = settings.text("auto-compaction-mode")
    let retention = settings.text("auto-compaction-retention")
    guard mode == "periodic" || mode == "revision" || mode.isEmpty else {
      throw ConfigError("unknown auto-compaction-mode \"\(mode)\"")
    }
    if mode == "revision" {
      guard let count = Int64(retention), count >= 0 else {
        throw ConfigError(
          "--auto-compaction-retention: '\(retention)' is not a number of revisions")
      }
      return count == 0 ? .off : .revision(keep: count)
    }
    if let hours = UInt64(retention), hours < 1_000_000 {
      return hours == 0 ? .off : .periodic(nanoseconds: hours * 3_600_000_000_000)
    }
    guard let nanoseconds = Settings.nanoseconds(retention) else {
      throw ConfigError("error parsing auto-compaction-retention '\(retention)'")
    }
    return nanoseconds == 0 ? .off : .periodic(nanoseconds: nanoseconds)
  }

  /// etcd: the default follows --name and the advertised peer URLs.
  private static func initialCluster(
    _ settings: Settings, name: String, advertised: [Endpoint]
  ) throws(ConfigError) -> [InitialMember] {
    guard settings.isGiven("initial-cluster") else {
      return [InitialMember(name: name, peerURLs: advertised.map(\.text))]
    }
    var members: [InitialMember] = []
    for pair in settings.text("initial-cluster").split(separator: ",") {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, !halves[1].isEmpty else {
        throw ConfigError("--initial-cluster: empty URL given for '\(halves[0])'")
      }
      let memberName = halves[0].filter { $0 != " " }
      let url = try Endpoint.parse(String(halves[1]), "initial-cluster", settings).text
      if let at = members.firstIndex(where: { $0.name == memberName }) {
        members[at].peerURLs = (members[at].peerURLs + [url]).sorted()
      } else {
        members.append(InitialMember(name: memberName, peerURLs: [url]))
      }
    }
    return members
  }

  private func validate(_ settings: Settings) throws(ConfigError) {
    try validateURLs(settings)
    try validateChoices(settings)
    guard heartbeatMilliseconds > 0 else {
      throw ConfigError(
        "--heartbeat-interval must be >0 (set to \(heartbeatMilliseconds)ms)")
    }
    guard electionMilliseconds > 0 else {
      throw ConfigError("--election-timeout must be >0 (set to \(electionMilliseconds)ms)")
    }
    guard heartbeatMilliseconds <= electionMilliseconds / 5 else {
      throw ConfigError(
        "--election-timeout[\(electionMilliseconds)ms] should be at least as 5 times as "
          + "--heartbeat-interval[\(heartbeatMilliseconds)ms]")
    }
    guard electionMilliseconds <= 50_000 else {
      throw ConfigError(
        "--election-timeout[\(electionMilliseconds)ms] is too long, and should be set less than "
          + "50000ms")
    }
    // A configuration file leaves the default.
    if settings.file == nil, settings.isGiven("listen-client-urls"),
      !settings.isGiven("advertise-client-urls")
    {
      throw ConfigError(
        "--advertise-client-urls is required when --listen-client-urls is set explicitly")
    }
    if leaseCheckpointPersist, !leaseCheckpoint {
      throw ConfigError(
        "setting experimental-enable-lease-checkpoint-persist requires "
          + "experimental-enable-lease-checkpoint")
    }
    try validateMembers()
  }

  private func validateURLs(_ settings: Settings) throws(ConfigError) {
    for (flag, urls) in [
      ("listen-peer-urls", listenPeer), ("listen-client-urls", listenClient),
      ("listen-client-http-urls", http.listenHTTP), ("listen-metrics-urls", http.listenMetrics),
    ] {
      guard !urls.isEmpty || flag.hasSuffix("http-urls") || flag.hasSuffix("metrics-urls") else {
        throw ConfigError("--\(flag) must name at least one URL")
      }
      for url in urls where !url.isBindable {
        throw ConfigError("expected IP in URL for binding (\(url.text)) [--\(flag)]")
      }
    }
    for (flag, urls) in [
      ("initial-advertise-peer-urls", advertisePeer), ("advertise-client-urls", advertiseClient),
    ] {
      for url in urls where url.host.isEmpty {
        throw ConfigError(
          "--\(flag) \"\(url.text)\" must be \"host:port\" (unexpected empty host "
            + "(\(url.text)))")
      }
    }
    if let url = http.listenHTTP.first(where: { listenClient.contains($0) }) {
      throw ConfigError(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url "
          + url.text)
    }
  }

  private func validateChoices(_ settings: Settings) throws(ConfigError) {
    let ways = ["discovery", "initial-cluster", "discovery-srv"].filter {
      settings.isGiven($0) && !settings.text($0).isEmpty
    }
    guard ways.count < 2 else {
      throw ConfigError(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", "
          + "\"discovery\" or \"discovery-srv\"")
    }
    if settings.text("experimental-compact-hash-check-time").hasPrefix("-")
      || settings.duration("experimental-compact-hash-check-time") == 0
    {
      throw ConfigError("--experimental-compact-hash-check-time must be >0")
    }
    let phase = settings.text("v2-deprecation")
    if settings.flag("enable-v2"), phase != "not-yet", !phase.isEmpty {
      throw ConfigError(
        "--enable-v2 and --v2-deprecation=\(phase) are mutually exclusive")
    }
  }

  private func validateMembers() throws(ConfigError) {
    guard let mine = initialCluster.first(where: { $0.name == name }) else {
      throw ConfigError(
        "couldn't find local name \"\(name)\" in the initial cluster configuration "
          + "[--name, --initial-cluster]")
    }
    let advertised = advertisePeer.map(\.text).sorted()
    guard mine.peerURLs == advertised else {
      throw ConfigError(
        "--initial-cluster has \(name)=\(mine.peerURLs.joined(separator: ",\(name)=")) but missing "
          + "from --initial-advertise-peer-urls=\(advertised.joined(separator: ",")), or the other "
          + "way round: both must name the same URLs")
    }
    var seen: Set<String> = []
    for url in initialCluster.flatMap(\.peerURLs) where !seen.insert(url).inserted {
      throw ConfigError("--initial-cluster names \(url) twice")
    }
  }

  /// The text of `--help`.
  public static var help: String {
    var text = """
      Usage:

        martlet [flags]
          Start a server that is etcd to its clients.

        martlet check [--repair] <data-dir>
          Verify what a stopped server stored.

        martlet --version
          Show the version.

        martlet -h | --help
          Show this.

        martlet --config-file PATH
          Take the settings from a YAML file; other flags and the environment are ignored then.

      Every flag can be set in the environment too: --data-dir as ETCD_DATA_DIR.

      """
    for group in Flag.Group.allCases where group != .outdated && group != .file {
      text += "\n\(group.rawValue):\n"
      for flag in Flag.all where flag.group == group {
        let note = flag.acts ? "" : " (parsed, not acted on)"
        text += "  --\(flag.name) '\(flag.standard)'\n    \(flag.help)\(note)\n"
      }
    }
    return text
  }
}
