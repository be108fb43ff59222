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
  public var syncsToDisk: Bool
  public var logLevel: String
  /// Flags that were given and that this build does not act on.
  public var ignored: [String]

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
  public init(_ settings: Settings) throws(ConfigError) {
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
    listenPeer = try Endpoint.list(settings.text("listen-peer-urls"), flag: "listen-peer-urls")
    listenClient = try Endpoint.list(
      settings.text("listen-client-urls"), flag: "listen-client-urls")
    advertisePeer = try Endpoint.list(
      settings.text("initial-advertise-peer-urls"), flag: "initial-advertise-peer-urls")
    advertiseClient = try Endpoint.list(
      settings.text("advertise-client-urls"), flag: "advertise-client-urls")
    initialClusterToken = settings.text("initial-cluster-token")
    isNewCluster = settings.text("initial-cluster-state") == "new"
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
    syncsToDisk = !settings.flag("unsafe-no-fsync")
    logLevel = settings.text("log-level")
    ignored = Flag.all.filter { !$0.acts && settings.given.contains($0.name) }.map(\.name)
    initialCluster = try Self.initialCluster(settings, name: name, advertised: advertisePeer)
    try validate(settings)
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
    guard settings.given.contains("initial-cluster") else {
      return [InitialMember(name: name, peerURLs: advertised.map(\.text))]
    }
    var members: [InitialMember] = []
    for pair in settings.text("initial-cluster").split(separator: ",") {
      let halves = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard halves.count == 2, !halves[1].isEmpty else {
        throw ConfigError("--initial-cluster: empty URL given for '\(halves[0])'")
      }
      let memberName = halves[0].filter { $0 != " " }
      let url = try Endpoint.parse(String(halves[1]), flag: "initial-cluster").text
      if let at = members.firstIndex(where: { $0.name == memberName }) {
        members[at].peerURLs = (members[at].peerURLs + [url]).sorted()
      } else {
        members.append(InitialMember(name: memberName, peerURLs: [url]))
      }
    }
    return members
  }

  private func validate(_ settings: Settings) throws(ConfigError) {
    for (flag, urls) in [("listen-peer-urls", listenPeer), ("listen-client-urls", listenClient)] {
      guard !urls.isEmpty else { throw ConfigError("--\(flag) must name at least one URL") }
      for url in urls where !url.isBindable {
        throw ConfigError(
          "expected IP in URL for binding (\(url.text)) [--\(flag)]")
      }
    }
    let state = settings.text("initial-cluster-state")
    guard state == "new" || state == "existing" else {
      throw ConfigError("unexpected clusterState \"\(state)\" [--initial-cluster-state]")
    }
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
    if settings.given.contains("listen-client-urls"),
      !settings.given.contains("advertise-client-urls")
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
    var text = "Usage:\n\n  martlet [flags]\n    Start a server that is etcd to its clients.\n\n"
    text += "  martlet --version\n    Show the version.\n\n  martlet -h | --help\n    Show this.\n"
    for group in Flag.Group.allCases {
      text += "\n\(group.rawValue):\n"
      for flag in Flag.all where flag.group == group {
        let note = flag.acts ? "" : " (parsed, not acted on)"
        text += "  --\(flag.name) '\(flag.standard)'\n    \(flag.help)\(note)\n"
      }
    }
    return text
  }
}
