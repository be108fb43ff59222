import Basics
import Peers
import Raft
import Testing

@Suite struct HandshakeTests {
  let own = Handshake(
    member: NodeID(0x1a2b), cluster: ClusterID(0xc1), version: "3.5.21",
    peerURLs: ["http://127.0.0.1:2380"])

  func check(_ changes: [String: String]) throws(PeerRefusal) {
    var headers = [
      "x-server-from": "2", "x-server-version": "3.5.1", "x-min-cluster-version": "3.0.0",
      "x-etcd-cluster-id": "c1",
    ]
    for (name, value) in changes { headers[name] = value }
    try own.check { headers[$0] }
  }

  @Test func `a member of the same cluster with a fitting version is let in`() throws {
    try check([:])
    try check(["x-server-version": "3.0.0"])
    try check(["x-server-version": "3.7.0-alpha.1", "x-min-cluster-version": "3.5.0"])
  }

  @Test(arguments: [
    ("x-etcd-cluster-id", "c2", PeerRefusal.clusterMismatch),
    ("x-etcd-cluster-id", "", .clusterMismatch),
    ("x-server-version", "2.3.0", .incompatibleVersion),
    ("x-server-version", "", .incompatibleVersion),
    ("x-server-version", "new", .incompatibleVersion),
    ("x-min-cluster-version", "3.6.0", .incompatibleVersion),
  ])
  func `others are refused in etcd's words`(name: String, value: String, refusal: PeerRefusal) {
    #expect(throws: refusal) { try check([name: value]) }
    #expect(refusal.status == 412)
  }

  @Test func `a stream's path names its channel and who asks`() throws {
    let found = try own.stream("/raft/stream/msgapp/8e9e05c52164694d")
    #expect(found.channel == .append && found.from == NodeID(0x8e9e_05c5_2164_694d))
    #expect(try own.stream("/raft/stream/message/1").channel == .message)
    #expect(throws: PeerRefusal.badPath) { try own.stream("/raft/stream/x/1") }
    for id in ["", "+1", "-1", "x", "1/", "11111111111111111"] {
      #expect(throws: PeerRefusal.badSender) {
        try own.stream("/raft/stream/message/\(id)")
      }
    }
  }

  @Test func `a stream's request names who is meant, a post does not`() {
    let stream = own.headers(to: NodeID(0xff), isStream: true).map { "\($0.name): \($0.value)" }
    #expect(
      stream == [
        "X-Server-From: 1a2b", "X-Server-Version: 3.5.21", "X-Min-Cluster-Version: 3.0.0",
        "X-Etcd-Cluster-ID: c1", "X-Raft-To: ff", "X-PeerURLs: http://127.0.0.1:2380",
      ])
    #expect(!own.headers(to: NodeID(0xff), isStream: false).contains { $0.name == "X-Raft-To" })
  }

  @Test(arguments: [
    (200, "", true, PeerVerdict.accepted), (204, "", false, .accepted),
    (410, "removed member\n", true, .removed),
    (403, "cannot process message from removed member\n", false, .removed),
    (403, "cannot process message to mismatch member\n", false, .refused(403)),
    (410, "", false, .refused(410)), (412, "incompatible version\n", true, .incompatibleVersion),
    (412, "cluster ID mismatch\n", false, .clusterMismatch),
    (412, "to field mismatch\n", true, .refused(412)), (404, "", true, .refused(404)),
  ])
  func `an answer says what became of the request`(
    status: Int, body: String, isStream: Bool, verdict: PeerVerdict
  ) {
    #expect(PeerVerdict(status: status, body: Array(body.utf8), isStream: isStream) == verdict)
  }

  @Test func `URLs are read, and those that fail give way to the next`() throws {
    #expect(PeerURL("https://[::1]:2380")?.host == "::1")
    #expect(PeerURL("https://[::1]:2380")?.authority == "[::1]:2380")
    #expect(PeerURL("http://a:1")?.socketPath == nil)
    let local = try #require(PeerURL("unixs://a:1"))
    #expect(local.isSecure && local.socketPath == "a:1" && local.text == "unixs://a:1")
    for text in [
      "http://a", "a:1", "unix:///a", "ftp://a:1", "http://:1", "http://a:99999", "http://a b:1",
    ] {
      #expect(PeerURL(text) == nil)
    }
    var picker = URLPicker(["http://a:1", "nonsense", "http://b:2"])
    let first = try #require(picker.current)
    picker.unreachable(first)
    picker.unreachable(first)
    #expect(picker.current == PeerURL("http://b:2"))
    picker.unreachable(try #require(picker.current))
    #expect(picker.current == first)
    #expect(URLPicker([]).current == nil)
  }
}

@Suite struct RouteTests {
  func route(_ message: Message, _ append: Int?, _ other: Int?, _ posts: Int = 0) -> Route {
    Route.of(message, append: append, message: other, posts: posts)
  }

  @Test func `appends have a stream of their own and take the other one without it`() {
    let message = append(2, after: 1, 1, count: 1, commit: 1)
    #expect(route(message, 0, 0) == .stream(.append))
    #expect(route(message, nil, 0) == .stream(.message))
    #expect(route(message, nil, nil) == .post)
    #expect(route(message, PeerLimits.appendBacklogBytes + 1, 0) == .drop)
  }

  @Test func `all other messages keep off the stream of appends`() {
    let message = Message(from: NodeID(1), to: NodeID(2), term: Term(1), body: .timeoutNow)
    #expect(route(message, 0, 0) == .stream(.message))
    #expect(route(message, 0, nil) == .post)
    #expect(route(message, 0, nil, PeerLimits.pipelineMessages) == .drop)
    #expect(route(message, 0, PeerLimits.messageBacklogBytes + 1) == .drop)
  }

  @Test func `snapshots travel alone`() throws {
    let message = try #require(
      samples.first { if case .snapshot = $0.body { true } else { false } })
    #expect(route(message, 0, 0) == .snapshot)
  }
}

@Suite struct PeerStateTests {
  func answer(_ probe: inout Probe, _ body: [UInt8], roundTrip: UInt64, wall: UInt64) throws {
    let isTaken = probe.answered(body, roundTrip: roundTrip, wall: wall)
    try #require(isTaken)
  }

  @Test func `a broken stream is dialled soon, then ever more rarely`() {
    var redial = Redial()
    var waits: [UInt64] = []
    for _ in 0..<7 {
      redial.failed(1000)
      waits.append((redial.at - 1000) / 1_000_000)
    }
    #expect(waits == [100, 200, 400, 800, 1600, 1600, 1600])
    redial.hurry(1000)
    #expect(redial.at == 1000 + PeerLimits.redialMin)
    redial.succeeded()
    redial.failed(0)
    #expect(redial.at == PeerLimits.redialMin)
  }

  @Test func `probes measure the round trip and how far the clocks are apart`() throws {
    let wall: UInt64 = 1_763_710_000_123_456_789
    var probe = Probe()
    try answer(&probe, Probe.answer(wall: wall), roundTrip: 2000, wall: wall + 1000)
    #expect(probe.clockDifference == 0)
    #expect(probe.roundTrip == 2000)
    let theirs = Array("{\"OK\":true,\"Now\":\"2025-11-21T07:26:38.5Z\"}\n".utf8)
    try answer(&probe, theirs, roundTrip: 0, wall: wall)
    #expect(probe.clockDifference == 1_623_456_789)
    #expect(probe.isDrifting && probe.isHealthy)
    let zoned = Array("{\"OK\":true,\"Now\":\"2025-11-21T08:26:40.123456789+01:00\"}".utf8)
    try answer(&probe, zoned, roundTrip: 0, wall: wall)
    #expect(probe.clockDifference == 0)
  }

  @Test(arguments: [
    "", "{\"OK\":false}", "{\"OK\":true,\"Now\":\"\"}", "{\"OK\":true,\"Now\":\"9999-99-99\"}",
    "{\"OK\":true,\"Now\":\"2025-11-21T07:26:38.Z\"}",
    "{\"OK\":true,\"Now\":\"2025-11-21T07:26:38.12345678901Z\"}",
  ])
  func `what is no answer to a probe is a failure`(body: String) {
    var probe = Probe()
    let isTaken = probe.answered(Array(body.utf8), roundTrip: 1, wall: 1)
    #expect(!isTaken)
    #expect(!probe.isHealthy)
  }

  @Test func `the answer to a probe is as Go writes it`() {
    let text = String(decoding: Probe.answer(wall: 1_582_979_696_000_000_005), as: UTF8.self)
    #expect(text == "{\"OK\":true,\"Now\":\"2020-02-29T12:34:56.000000005Z\"}\n")
  }
}
