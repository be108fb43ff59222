import Testing

@testable import Config

@Suite struct ConfigTests {
  func options(_ arguments: [String]) throws -> Options {
    try Options(Settings(arguments: arguments, environment: []))
  }

  @Test func `the three spellings of a flag mean the same`() throws {
    for line in [["--name", "a"], ["--name=a"], ["-name", "a"]] {
      let settings = try Settings(arguments: line, environment: [])
      #expect(settings.text("name") == "a")
    }
  }

  @Test func `a flag wins over the environment, which wins over the default`() throws {
    let environment = [("ETCD_NAME", "b"), ("ETCD_SNAPSHOT_COUNT", "7"), ("ETCD_UNKNOWN", "x")]
    let settings = try Settings(
      arguments: ["--name", "a"], environment: environment.map { (name: $0.0, value: $0.1) })
    #expect(settings.text("name") == "a")
    #expect(settings.number("snapshot-count") == 7)
    #expect(settings.number("max-wals") == 5)
  }

  @Test(arguments: [
    (["--nonsense"], "flag provided but not defined: -nonsense", 2),
    (["--name"], "flag needs an argument: -name", 2),
    (["--max-wals", "many"], "invalid value \"many\"", 2),
    (["word"], "'word' is not a valid flag", 1),
    (["--", "word"], "'word' is not a valid flag", 1),
    (["--pre-vote", "false"], "'false' is not a valid flag", 1),
    (["--pre-vote=maybe"], "invalid boolean value \"maybe\" for -pre-vote: parse error", 2),
    (["--max-wals", "-5"], "invalid value \"-5\" for flag -max-wals: parse error", 2),
    (["---name", "a"], "bad flag syntax: ---name", 2),
    (["--client-cert-allowed-cn", "a"], "flag provided but not defined", 2),
    (["--proxy", "maybe"], "invalid value \"maybe\" for flag -proxy: invalid value", 2),
    (["--initial-cluster-state", "old"], "invalid value \"old\" for flag", 2),
    (["--listen-client-urls", "http://127.0.0.1:1/x"], "URL must not contain a path", 2),
    (["--log-level", "loud"], "unrecognized level: \"loud\"", 2),
    (["--logger", "x"], "unknown logger option \"x\"", 1),
    (["--advertise-client-urls=http://:1"], "unexpected empty host (http://:1)", 1),
    (
      ["--discovery=http://a:1", "--initial-cluster=default=http://localhost:2380"],
      "multiple discovery or bootstrap flags are set", 1
    ),
    (["--enable-v2", "--v2-deprecation=gone"], "are mutually exclusive", 1),
    (["--listen-client-urls", "ftp://1.2.3.4:5"], "URL scheme must be", 2),
    (["--listen-client-urls", "http://127.0.0.1:5"], "--advertise-client-urls is required", 1),
    (["--heartbeat-interval", "500"], "should be at least as 5 times", 1),
    (["--heartbeat-interval", "9223372036854775807"], "should be at least as 5 times", 1),
    (["--initial-cluster", "x=http://localhost:2380"], "couldn't find local name", 1),
    (["--initial-cluster", "default=http://localhost:1"], "must name the same URLs", 1),
    (["--listen-peer-urls", "http://example.com:2380"], "expected IP in URL", 1),
    (["--auto-compaction-mode", "daily"], "unknown auto-compaction-mode", 1),
  ])
  func `a bad line is refused with its reason`(
    arguments: [String], text: String, status: Int32
  ) {
    let error = #expect(throws: ConfigError.self) { try options(arguments) }
    #expect(error?.text.contains(text) == true, "\(String(describing: error))")
    #expect(error?.exitStatus == status)
  }

  static let secure = [
    "--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1",
  ]

  @Test(arguments: [
    (secure, "(--cert-file, --key-file) must be provided for client url https://127.0.0.1:1"),
    (secure + ["--cert-file=c"], "KeyFile and CertFile must both be present[key: , cert: c]"),
    (
      secure + ["--cert-file=c", "--key-file=k", "--client-cert-file=x"],
      "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: x]"
    ),
    (secure + ["--auto-tls", "--self-signed-cert-validity=0"], "should be greater than 0"),
    (["--listen-peer-urls=https://127.0.0.1:1"], "KeyFile and CertFile are not presented"),
    (
      ["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
      "AllowedCNs and AllowedHostnames are mutually exclusive"
    ),
    (["--tls-min-version=TLS1.1"], "unexpected TLS version \"TLS1.1\" (must be one of:"),
    (["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"], "is greater than max version"),
    (["--tls-min-version=TLS1.3", "--cipher-suites=x"], "cipher suites cannot be configured"),
    (["--listen-metrics-urls=https://127.0.0.1:1"], "for metrics secure url"),
  ])
  func `what cannot secure a port is refused`(arguments: [String], text: String) {
    let error = #expect(throws: ConfigError.self) { try options(arguments) }
    #expect(error?.text.contains(text) == true, "\(String(describing: error))")
    #expect(error?.exitStatus == 1)
  }

  @Test func `TLS flags arrive and what they do not bear on is noted`() throws {
    let found = try options([
      "--listen-client-urls=https://127.0.0.1:1,http://127.0.0.1:2", "--trusted-ca-file=ca",
      "--advertise-client-urls=https://127.0.0.1:1", "--cert-file=c", "--key-file=k",
      "--cipher-suites=A,B", "--peer-cert-allowed-cn=m1,m2", "--tls-max-version=TLS1.3",
    ])
    #expect(found.clientTLS.certificateFile == "c" && found.clientTLS.demandsCertificates)
    #expect(found.clientTLS.cipherSuites == ["A", "B"])
    #expect(found.clientTLS.versionMin == .tls12 && found.clientTLS.versionMax == .tls13)
    #expect(found.peerTLS.allowedCommonNames == ["m1", "m2"])
    #expect(!found.peerTLS.demandsCertificates)
    #expect(found.notes.map(\.subject) == ["http://127.0.0.1:2"])
  }

  @Test func `a bad value in the environment names its variable`() {
    let environment = [(name: "ETCD_HEARTBEAT_INTERVAL", value: "abc")]
    let error = #expect(throws: ConfigError.self) {
      try Settings(arguments: [], environment: environment)
    }
    #expect(error?.text == "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error")
    #expect(error?.exitStatus == 1)
  }

  @Test func `variables that are shadowed or unknown are noted`() throws {
    let environment = [(name: "ETCD_NAME", value: "b"), (name: "ETCD_NONSENSE", value: "c")]
    let settings = try Settings(arguments: ["--name=a"], environment: environment)
    #expect(settings.text("name") == "a")
    #expect(settings.notes.map(\.subject) == ["ETCD_NAME", "ETCD_NONSENSE"])
  }

  @Test func `durations read as Go reads them`() {
    #expect(Settings.nanoseconds("1h30m") == 5_400_000_000_000)
    #expect(Settings.nanoseconds("100ms") == 100_000_000)
    #expect(Settings.nanoseconds("0") == 0)
    #expect(Settings.nanoseconds("1.5s") == 1_500_000_000)
    #expect(Settings.nanoseconds("") == nil)
    #expect(Settings.nanoseconds("5") == nil)
    #expect(Settings.nanoseconds("99999999999h") == nil)
  }

  @Test func `the initial cluster follows name and advertised URLs`() throws {
    let found = try options(["--name", "m", "--initial-advertise-peer-urls", "http://[::1]:1"])
    #expect(found.initialCluster == [InitialMember(name: "m", peerURLs: ["http://[::1]:1"])])
  }

  @Test func `a flag that does nothing here is reported when given`() throws {
    #expect(
      try options(["--experimental-memory-mlock"]).ignored == ["experimental-memory-mlock"])
    #expect(try options([]).ignored.isEmpty)
  }
}
