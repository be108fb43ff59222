import Basics
import Testing

@testable import Peers

@Suite struct CorruptionTests {
  static let own = NodeID(1)
  let before = StoreHash(hash: 10, revision: 100, compactRevision: 50)

  func answers(
    _ found: [(member: UInt64, hash: UInt32, compactRevision: Int64, current: Int64)]
  ) -> [Corruption.Answer] {
    found.map {
      let hash = StoreHash(hash: $0.hash, revision: 100, compactRevision: $0.compactRevision)
      return Corruption.Answer(NodeID($0.member), .hash(hash, current: $0.current))
    }
  }

  func atNewest(
    after: StoreHash? = nil,
    _ found: [(member: UInt64, hash: UInt32, compactRevision: Int64, current: Int64)],
    silent: [UInt64] = []
  ) -> Corruption.Verdict {
    let silence = silent.map { Corruption.Answer(NodeID($0), .missing("timed out")) }
    return Corruption.atNewest(
      own: Self.own, before: before, after: after ?? before, answers: answers(found) + silence)
  }

  @Test func `equal hashes accuse nobody`() {
    let verdict = atNewest([(2, 10, 50, 100), (3, 10, 50, 99)])
    #expect(verdict == Corruption.Verdict(accused: [], findings: [], comparedCount: 2))
  }

  @Test func `whose hash the majority has not is named, be it the leader`() {
    #expect(atNewest([(2, 10, 50, 100), (3, 11, 50, 100)]).accused == [NodeID(3)])
    #expect(atNewest([(2, 11, 50, 100), (3, 11, 50, 100)]).accused == [Self.own])
    let four = atNewest([(2, 7, 50, 100), (5, 10, 50, 100), (3, 8, 50, 100), (4, 10, 50, 100)])
    #expect(four.accused == [NodeID(2), NodeID(3)])
    #expect(
      four.findings == [.differs(NodeID(2), hash: 7), .differs(NodeID(3), hash: 8)])
  }

  @Test func `without a majority nobody is named, and there is an alarm all the same`() {
    #expect(atNewest([(2, 11, 50, 100)]).accused == [.none])
    #expect(atNewest([(2, 11, 50, 100), (3, 12, 50, 100)]).accused == [.none])
    #expect(atNewest([(2, 11, 50, 100)], silent: [3]).accused == [.none])
    #expect(atNewest([(2, 11, 50, 100), (3, 10, 50, 100)], silent: [4, 5]).accused == [.none])
  }

  @Test func `hashes over another history are not compared`() {
    let verdict = atNewest([(2, 11, 40, 100), (3, 12, 50, 100), (4, 10, 50, 100)])
    #expect(verdict.comparedCount == 2 && verdict.findings == [.differs(NodeID(3), hash: 12)])
    #expect(atNewest([(2, 11, 40, 100)]).accused.isEmpty)
    #expect(atNewest([], silent: [2, 3]).accused.isEmpty)
  }

  @Test func `a follower is not ahead of its leader`() {
    #expect(atNewest([(2, 10, 50, 101)]).findings == [.ahead(NodeID(2), revision: 101)])
    #expect(atNewest([(2, 10, 50, 101)]).accused == [NodeID(2)])
    let later = StoreHash(hash: 77, revision: 120, compactRevision: 60)
    #expect(atNewest(after: later, [(2, 10, 50, 101), (3, 9, 60, 120)]).accused.isEmpty)
    let compacted = atNewest(after: later, [(2, 9, 61, 120)])
    #expect(compacted.findings == [.compactedAhead(NodeID(2), revision: 61)])
    #expect(compacted.accused == [NodeID(2)])
  }

  @Test func `a leader's own hash stays as it is`() {
    let other = StoreHash(hash: 11, revision: 100, compactRevision: 50)
    #expect(atNewest(after: other, []).accused == [Self.own])
    #expect(atNewest(after: other, []).findings == [.changed])
    let compacted = StoreHash(hash: 11, revision: 100, compactRevision: 60)
    #expect(atNewest(after: compacted, []).accused.isEmpty)
    // Accused twice, named once.
    #expect(atNewest(after: other, [(2, 9, 50, 100), (3, 9, 50, 100)]).accused == [Self.own])
  }

  @Test func `what a compaction found is compared with those that found it after the same`() {
    func accused(
      _ found: [(member: UInt64, hash: UInt32, compactRevision: Int64, current: Int64)]
    ) -> Corruption.Verdict {
      Corruption.atCompaction(own: Self.own, hash: before, answers: answers(found))
    }
    // That others have gone on since is no fault.
    #expect(accused([(2, 10, 50, 900), (3, 10, 50, 901)]).accused.isEmpty)
    #expect(accused([(2, 11, 50, 900), (3, 10, 50, 901)]).accused == [NodeID(2)])
    #expect(accused([(2, 11, 100, 900), (3, 12, 50, 900)]).accused == [.none])
    #expect(accused([(2, 11, 100, 900), (3, 10, 50, 900)]).comparedCount == 1)
  }

  @Test func `a member that starts counts every difference over the same history`() {
    let found = answers([(2, 10, 50, 100), (3, 11, 50, 100), (4, 12, 60, 100)])
    let rest = [
      Corruption.Answer(NodeID(5), .compacted), Corruption.Answer(NodeID(6), .future),
      Corruption.Answer(NodeID(7), .missing("")), Corruption.Answer(NodeID(8), .otherCluster),
    ]
    let differing = Corruption.atStart(hash: before, answers: found + rest)
    #expect(differing.map(\.member) == [NodeID(3)] && differing.map(\.hash) == [11])
  }
}

@Suite struct HashExchangeTests {
  @Test func `a question is etcd's`() {
    var bytes: [UInt8] = []
    HashExchange.request(7, cluster: ClusterID(0xc1)).encode(for: "h:1", into: &bytes)
    #expect(
      String(decoding: bytes, as: UTF8.self)
        == "GET /members/hashkv HTTP/1.1\r\nHost: h:1\r\nX-Etcd-Cluster-ID: c1\r\n"
        + "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"revision\":7}")
  }

  @Test(arguments: [("{}", 0), ("null", 0), ("{\"revision\":9}", 9), ("{\"REVISION\":-1}", -1)])
  func `a question is read as Go reads it`(text: String, revision: Int64) throws {
    #expect(try HashExchange.revision(Array(text.utf8)) == revision)
  }

  @Test(arguments: [
    "", "{", "7", "[]", "{\"revision\":\"9\"}", "{\"revision\":1.5}",
    "{\"revision\":9223372036854775808}",
  ])
  func `a question that cannot be read is refused in etcd's words`(text: String) {
    #expect(throws: PeerRefusal(400, "error unmarshalling request")) {
      try HashExchange.revision(Array(text.utf8))
    }
  }

  @Test func `an answer is read as it was written`() {
    let hash = StoreHash(hash: .max, revision: 5, compactRevision: -1)
    let bytes = HashExchange.answer(hash, current: 8)
    #expect(HashAnswer(status: 200, body: bytes, to: 5) == .hash(hash, current: 8))
    let short = Array("{\"header\":{\"revision\":3}}\n".utf8)
    #expect(
      HashAnswer(status: 200, body: short, to: 3)
        == .hash(StoreHash(hash: 0, revision: 3, compactRevision: 0), current: 3))
  }

  @Test(arguments: [
    (400, "mvcc: required revision has been compacted\n", HashAnswer.compacted),
    (400, "etcdserver: mvcc: required revision is a future revision", .future),
    (412, "cluster ID mismatch\n", .otherCluster),
    (404, "404 page not found", .missing("unknown error: 404 page not found")),
    (200, "[]", .missing("the answer cannot be read")),
    (200, "{\"hash\":4294967296}", .missing("the answer cannot be read")),
    (200, "{\"hash\":1,\"header\":{\"revision\":\"x\"}}", .missing("the answer cannot be read")),
    (200, "nonsense", .missing("the answer cannot be read")),
  ])
  func `other answers are told apart`(status: Int, body: String, answer: HashAnswer) {
    #expect(HashAnswer(status: status, body: Array(body.utf8), to: 5) == answer)
  }
}
