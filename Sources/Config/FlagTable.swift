/// What a flag takes after its name.
public enum FlagKind: Equatable, Sendable {
  case text
  /// Comma-separated URLs.
  case urls
  case boolean
  case number
  case unsigned
  case choice([String])
  /// Go's duration: `1h30m`, `10ms`.
  case duration
}

/// One flag of etcd 3.5's command line: name without dashes, what it takes, its default.
public struct Flag: Sendable {
  public var name: String
  public var kind: FlagKind
  public var standard: String
  /// Whether Martlet does something with it; one that is only parsed is warned about when set.
  public var acts: Bool
  public var group: Group
  public var help: String

  /// The groups of `--help`, in etcd's order.
  public enum Group: String, CaseIterable, Sendable {
    case member = "Member"
    case clustering = "Clustering"
    case security = "Security"
    case auth = "Auth"
    case profiling = "Profiling and Monitoring"
    case logging = "Logging"
    case tracing = "Experimental distributed tracing"
    case proxy = "v2 Proxy (to be deprecated in v3.6)"
    case experimental = "Experimental feature"
    case unsafe = "Unsafe feature"
    case own = "Martlet's own"
    /// Taken and ignored, as etcd does with flags of long ago; not in `--help`.
    case outdated = "Outdated"
    /// Settings of the configuration file that no flag has.
    case file = "Configuration file"
  }

  init(
    _ group: Group, _ name: String, _ kind: FlagKind, _ standard: String, acts: Bool = false,
    _ help: String
  ) {
    self.group = group
    self.name = name
    self.kind = kind
    self.standard = standard
    self.acts = acts
    self.help = help
  }
}

extension Flag {
  /// Every flag of etcd 3.5 (server/etcdmain/help.go).
  public static let all: [Flag] = member + clustering + security + others + outdated

  /// Flags that are sequences in a configuration file.
  static let lists: Set<String> = [
    "cipher-suites", "log-outputs", "client-cert-allowed-cn", "peer-cert-allowed-cn",
    "client-cert-allowed-hostname", "peer-cert-allowed-hostname",
  ]

  private static let member: [Flag] = [
    Flag(.member, "name", .text, "default", acts: true, "the member's name"),
    Flag(.member, "data-dir", .text, "", acts: true, "where the data lives (NAME.etcd)"),
    Flag(.member, "wal-dir", .text, "", acts: true, "where the WAL lives, when not in data-dir"),
    Flag(.member, "snapshot-count", .unsigned, "100000", acts: true, "entries between snapshots"),
    Flag(.member, "heartbeat-interval", .unsigned, "100", acts: true, "ms between heartbeats"),
    Flag(.member, "election-timeout", .unsigned, "1000", acts: true, "ms before an election"),
    Flag(
      .member, "initial-election-tick-advance", .boolean, "true", acts: true,
      "whether the first election may come early"),
    Flag(
      .member, "listen-peer-urls", .urls, "http://localhost:2380", acts: true,
      "where peers are served"),
    Flag(
      .member, "listen-client-urls", .urls, "http://localhost:2379", acts: true,
      "where clients are served"),
    Flag(
      .member, "listen-client-http-urls", .urls, "", acts: true,
      "where plain HTTP clients are served"),
    Flag(.member, "max-snapshots", .unsigned, "5", acts: true, "snapshot files kept (0: all)"),
    Flag(.member, "max-wals", .unsigned, "5", acts: true, "released WAL files kept (0: all)"),
    Flag(
      .member, "quota-backend-bytes", .number, "0", acts: true,
      "size of the store that raises NOSPACE (0: 2 GiB; negative: none)"),
    Flag(.member, "backend-bbolt-freelist-type", .text, "map", "has no meaning for this store"),
    Flag(
      .member, "backend-batch-interval", .duration, "", acts: true,
      "longest time before the store commits (100ms)"),
    Flag(
      .member, "backend-batch-limit", .number, "0", acts: true,
      "most operations before the store commits (10000)"),
    Flag(.member, "max-txn-ops", .unsigned, "128", acts: true, "operations in one transaction"),
    Flag(.member, "max-request-bytes", .unsigned, "1572864", acts: true, "bytes of one request"),
    Flag(
      .member, "max-concurrent-streams", .unsigned, "4294967295", acts: true,
      "streams of one connection at a time"),
    Flag(.member, "enable-grpc-gateway", .boolean, "true", acts: true, "serve JSON beside gRPC"),
    Flag(
      .member, "grpc-keepalive-min-time", .duration, "5s", acts: true,
      "shortest time between a client's pings"),
    Flag(
      .member, "grpc-keepalive-interval", .duration, "2h", acts: true,
      "time between pings to an idle client (0: none)"),
    Flag(
      .member, "grpc-keepalive-timeout", .duration, "20s", acts: true,
      "time a ping may stay without answer (0: for ever)"),
    Flag(
      .member, "socket-reuse-port", .boolean, "false", acts: true,
      "share the port with a second process"),
    Flag(
      .member, "socket-reuse-address", .boolean, "false", acts: true,
      "bind over TIME_WAIT, as is always done here"),
    Flag(.member, "raft-read-timeout", .duration, "5s", "read time-out of a peer's connection"),
    Flag(.member, "raft-write-timeout", .duration, "5s", "write time-out of a peer's connection"),
  ]

  private static let clustering: [Flag] = [
    Flag(
      .clustering, "initial-advertise-peer-urls", .urls, "http://localhost:2380", acts: true,
      "this member's peer URLs, for the others"),
    Flag(
      .clustering, "initial-cluster", .text, "default=http://localhost:2380", acts: true,
      "the first members: NAME=URL,…"),
    Flag(
      .clustering, "initial-cluster-state", .choice(["new", "existing"]), "new", acts: true,
      "'new' or 'existing'"),
    Flag(
      .clustering, "initial-cluster-token", .text, "etcd-cluster", acts: true,
      "keeps clusters of equal members apart"),
    Flag(
      .clustering, "advertise-client-urls", .urls, "http://localhost:2379", acts: true,
      "this member's client URLs, for everyone"),
    Flag(.clustering, "discovery", .text, "", "discovery URL"),
    Flag(
      .clustering, "discovery-fallback", .choice(["proxy", "exit"]), "proxy", "'exit' or 'proxy'"),
    Flag(.clustering, "discovery-proxy", .text, "", "HTTP proxy to the discovery service"),
    Flag(.clustering, "discovery-srv", .text, "", "domain whose SRV records name the members"),
    Flag(.clustering, "discovery-srv-name", .text, "", "suffix of the SRV service name"),
    Flag(
      .clustering, "strict-reconfig-check", .boolean, "true", acts: true,
      "refuse changes that would lose the quorum"),
    Flag(.clustering, "pre-vote", .boolean, "true", acts: true, "ask before an election"),
    Flag(
      .clustering, "auto-compaction-retention", .text, "0", acts: true,
      "what automatic compaction keeps (0: off)"),
    Flag(
      .clustering, "auto-compaction-mode", .text, "periodic", acts: true,
      "'periodic' or 'revision'"),
    Flag(.clustering, "enable-v2", .boolean, "false", "serve the v2 API"),
    Flag(.clustering, "v2-deprecation", .text, "not-yet", "phase of the v2 API's end"),
  ]

  private static let security: [Flag] =
    [
      ("cert-file", "certificate of the client port"), ("key-file", "its key"),
      ("client-crl-file", "revoked client certificates"),
      ("client-cert-allowed-hostname", "names of which a client certificate must have one"),
      ("trusted-ca-file", "who signs client certificates, which are demanded then"),
      ("peer-cert-file", "certificate of the peer port"), ("peer-key-file", "its key"),
      ("peer-trusted-ca-file", "who signs peers' certificates"),
      ("peer-cert-allowed-cn", "common names of which peers must have one"),
      ("peer-cert-allowed-hostname", "names of which peers' certificates must have one"),
      ("peer-client-cert-file", "certificate shown to peers, when not the peer port's"),
      ("peer-client-key-file", "its key"), ("peer-crl-file", "revoked peer certificates"),
      ("cipher-suites", "cipher suites of TLS 1.2, by IANA's names"),
      ("tls-max-version", "newest TLS version: TLS1.2 or TLS1.3"),
    ].map { Flag(.security, $0.0, .text, "", acts: true, $0.1) }
    + [
      ("client-cert-auth", "demand client certificates"),
      ("auto-tls", "make a certificate for the client port"),
      ("peer-client-cert-auth", "demand peers' certificates"),
      ("peer-auto-tls", "make a certificate for the peer port"),
    ].map { Flag(.security, $0.0, .boolean, "false", acts: true, $0.1) }
    + [
      Flag(
        .security, "client-cert-file", .text, "",
        "certificate of etcd's gateway; it needs none here"),
      Flag(.security, "client-key-file", .text, "", "its key"),
      Flag(
        .security, "self-signed-cert-validity", .unsigned, "1", acts: true,
        "years for which a certificate made here holds"),
      Flag(.security, "cors", .text, "*", acts: true, "origins that may call from a browser"),
      Flag(
        .security, "host-whitelist", .text, "*", acts: true,
        "host names that plain requests may use"),
      Flag(
        .security, "tls-min-version", .text, "TLS1.2", acts: true,
        "oldest TLS version: TLS1.2 or TLS1.3"),
    ]

  private static let outdated: [Flag] =
    [
      "cluster-active-size", "cluster-remove-delay", "cluster-sync-interval", "config", "force",
      "max-result-buffer", "max-retry-attempts", "peer-heartbeat-interval",
      "peer-election-timeout", "retry-interval", "snapshot", "v", "vv",
    ].map { Flag(.outdated, $0, .boolean, "false", acts: true, "") }
    + [
      Flag(
        .file, "client-cert-allowed-cn", .text, "", acts: true,
        "common names of which a client certificate must have one")
    ]

  private static let others: [Flag] = [
    Flag(.auth, "auth-token", .text, "simple", acts: true, "'simple' or 'jwt,…'"),
    Flag(.auth, "bcrypt-cost", .unsigned, "10", acts: true, "cost of hashing a password"),
    Flag(.auth, "auth-token-ttl", .unsigned, "300", acts: true, "seconds a simple token lives"),
    Flag(
      .profiling, "enable-pprof", .boolean, "false", acts: true,
      "Go's profiler; there is none here"),
    Flag(.profiling, "metrics", .text, "basic", acts: true, "'basic' or 'extensive'"),
    Flag(
      .profiling, "listen-metrics-urls", .urls, "", acts: true,
      "where metrics and health are served"),
    Flag(.logging, "logger", .text, "zap", acts: true, "'zap'"),
    Flag(
      .logging, "log-outputs", .text, "default", acts: true,
      "where the log goes: stderr, stdout, systemd/journal, files"),
    Flag(
      .logging, "log-level", .text, "info", acts: true, "debug, info, warn, error, panic, fatal"),
    Flag(
      .logging, "enable-log-rotation", .boolean, "false", acts: true,
      "put a full log file by and begin another"),
    Flag(
      .logging, "log-rotation-config-json", .text,
      #"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
      acts: true, "when, and what is kept: megabytes, days, files"),
    Flag(.logging, "log-format", .text, "json", acts: true, "'json' or 'console'"),
    Flag(.tracing, "experimental-enable-distributed-tracing", .boolean, "false", "tracing"),
    Flag(
      .tracing, "experimental-distributed-tracing-address", .text, "localhost:4317",
      "where traces go"),
    Flag(
      .tracing, "experimental-distributed-tracing-service-name", .text, "etcd",
      "this service's name"),
    Flag(
      .tracing, "experimental-distributed-tracing-instance-id", .text, "", "this member's name"),
    Flag(
      .tracing, "experimental-distributed-tracing-sampling-rate", .number, "0",
      "samples in a million"),
    Flag(.proxy, "proxy", .choice(["off", "readonly", "on"]), "off", "'off', 'readonly' or 'on'"),
    Flag(.proxy, "proxy-failure-wait", .unsigned, "5000", "ms"),
    Flag(.proxy, "proxy-refresh-interval", .unsigned, "30000", "ms"),
    Flag(.proxy, "proxy-dial-timeout", .unsigned, "1000", "ms"),
    Flag(.proxy, "proxy-write-timeout", .unsigned, "5000", "ms"),
    Flag(.proxy, "proxy-read-timeout", .unsigned, "0", "ms"),
    Flag(
      .experimental, "experimental-initial-corrupt-check", .boolean, "false", acts: true,
      "compare data with the other members before serving"),
    Flag(
      .experimental, "experimental-corrupt-check-time", .duration, "0s", acts: true,
      "time between comparisons of the members' data; 0: none"),
    Flag(
      .experimental, "experimental-compact-hash-check-enabled", .boolean, "false", acts: true,
      "compare what compactions found; to be set on every member"),
    Flag(
      .experimental, "experimental-compact-hash-check-time", .duration, "1m", acts: true,
      "time between those comparisons"),
    Flag(.experimental, "experimental-enable-v2v3", .text, "", "v2 over the v3 store"),
    Flag(
      .experimental, "experimental-enable-lease-checkpoint", .boolean, "false", acts: true,
      "keep leases' remaining time in the log"),
    Flag(
      .experimental, "experimental-enable-lease-checkpoint-persist", .boolean, "false", acts: true,
      "and in the store"),
    Flag(
      .experimental, "experimental-compaction-batch-limit", .number, "1000", acts: true,
      "keys in one step of a compaction"),
    Flag(
      .experimental, "experimental-compaction-sleep-interval", .duration, "10ms",
      "pause between steps"),
    Flag(
      .experimental, "experimental-peer-skip-client-san-verification", .boolean, "false",
      acts: true, "take peers' certificates with any name"),
    Flag(
      .experimental, "experimental-watch-progress-notify-interval", .duration, "10m", acts: true,
      "time between progress notifications"),
    Flag(.experimental, "experimental-downgrade-check-time", .duration, "5s", "between checks"),
    Flag(.experimental, "experimental-memory-mlock", .boolean, "false", "hold pages in memory"),
    Flag(
      .experimental, "experimental-warning-apply-duration", .duration, "100ms", acts: true,
      "an apply slower than this is logged"),
    Flag(
      .experimental, "experimental-txn-mode-write-with-shared-buffer", .boolean, "true",
      "has no meaning for this store"),
    Flag(
      .experimental, "experimental-bootstrap-defrag-threshold-megabytes", .unsigned, "0",
      "defragment at start when so much would come free"),
    Flag(
      .experimental, "experimental-stop-grpc-service-on-defrag", .boolean, "false",
      "has no meaning: serving goes on"),
    Flag(
      .experimental, "experimental-snapshot-catchup-entries", .unsigned, "5000", acts: true,
      "entries kept after a snapshot"),
    Flag(
      .unsafe, "force-new-cluster", .boolean, "false", acts: true,
      "make a cluster of this member alone"),
    Flag(.unsafe, "unsafe-no-fsync", .boolean, "false", acts: true, "do not wait for the disk"),
    Flag(
      .own, "auto-defrag-factor", .unsigned, "2", acts: true,
      "defragment, beside the clients, once the file is larger than so many times what is in use "
        + "and 32 MiB; 0 never"),
    Flag(.member, "config-file", .text, "", acts: true, "YAML file to read instead of flags"),
    Flag(.member, "version", .boolean, "false", acts: true, "print the version and end"),
  ]
}
