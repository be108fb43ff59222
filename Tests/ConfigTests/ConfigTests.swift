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
    (["word"], "'word' is not a valid flag", 2),
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
    #expect(try options(["--socket-reuse-port"]).ignored == ["socket-reuse-port"])
    #expect(try options([]).ignored.isEmpty)
  }
}
