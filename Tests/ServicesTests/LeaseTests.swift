import Basics
import Lease
import Replica
import Services
import Testing

@Suite struct Leases {
  @Test func `a lease is granted with an ID of the client's or the server's`() throws {
    let member = try Harness()
    let own = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(7))))
    #expect(own.number(2) == 7 && own.number(3) == 60)
    let chosen = try member.call(.leaseGrant, Request.make((1, .number(60))))
    #expect(chosen.number(2) > 0)
    #expect(throws: Failure.leaseExists) {
      try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(7))))
    }
    #expect(throws: Failure.leaseTTLTooLarge) {
      try member.call(.leaseGrant, Request.make((1, .number(9_000_000_001))))
    }
    #expect(try member.call(.leaseLeases, []).messages(2).count == 2)
  }

  @Test func `a revoked lease takes its keys along, in one revision and in order`() throws {
    let member = try Harness()
    _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(7))))
    for key in ["c", "a", "b"] { _ = try member.call(.put, Request.put(key, "", lease: 7)) }
    _ = try member.call(.put, Request.put("b", "free"))
    let left = try member.call(.leaseTimeToLive, Request.make((1, .number(7)), (2, .number(1))))
    #expect(left.texts(5).sorted() == ["a", "c"])
    #expect(left.number(4) == 60)
    let revoke = try member.call(.leaseRevoke, Request.make((1, .number(7))))
    #expect(revoke.revision == 6)
    let keys = try member.call(.range, Request.get("a", end: "z")).messages(2).map { $0.text(1) }
    #expect(keys == ["b"])
    #expect(
      try member.call(.leaseTimeToLive, Request.make((1, .number(7)))).number(3) == -1)
  }

  @Test func `a lease that runs out is revoked, one that is kept alive is not`() throws {
    let member = try Harness()
    for lease in [7, 8] as [Int64] {
      _ = try member.call(.leaseGrant, Request.make((1, .number(10)), (2, .number(lease))))
      _ = try member.call(.put, Request.put("k\(lease)", "", lease: lease))
    }
    member.pass(8 * Harness.second)
    let stream = member.open(.leaseKeepAlive)
    member.send(stream, Request.make((1, .number(8))))
    #expect(Message(member.answers(stream)[0]).number(3) == 10)
    member.pass(4 * Harness.second)
    let keys = try member.call(.range, Request.get("k", end: "l")).messages(2)
    #expect(keys.map { $0.text(1) } == ["k8"])
    member.send(stream, Request.make((1, .number(7))))
    let gone = Message(member.answers(stream)[1])
    #expect(gone.number(2) == 7 && gone.numbers(3).isEmpty)
    member.services.halfClosed(stream, out: &member.outbox)
    member.settle()
    #expect(member.end(stream) == .some(.none))
  }

  // Seed 662 of the simulator: a leader that was stopped and resumed did not yet know that another
  // led, and promised time that the other never counted.
  @Test func `a leader that hears of no quorum prolongs no lease`() throws {
    let member = try Harness()
    _ = try member.call(.leaseGrant, Request.make((1, .number(10)), (2, .number(8))))
    member.isConnected = false
    let stream = member.open(.leaseKeepAlive)
    member.send(stream, Request.make((1, .number(8))))
    #expect(member.answers(stream).isEmpty)
    member.isConnected = true
    member.settle()
    #expect(Message(member.answers(stream)[0]).number(3) == 10)
  }

  @Test(arguments: [NodeID.none, NodeID(5)])
  func `a member that does not lead asks the leader how long leases live`(
    leader: NodeID
  ) throws {
    let member = try Harness()
    member.services.status.leader = leader
    let stream = member.open(.leaseKeepAlive)
    member.send(stream, Request.make((1, .number(8))))
    let single = member.open(.leaseTimeToLive)
    member.send(single, Request.make((1, .number(9)), (2, .number(1))))
    #expect(member.end(stream) == nil && member.end(single) == nil)
    try #require(member.forwards.count == 2)
    guard case .keepAlive(LeaseID(8)) = member.forwards[0].kind,
      case .timeToLive(LeaseID(9), withKeys: true) = member.forwards[1].kind
    else {
      Issue.record("\(member.forwards)")
      return
    }
    var answer = CompletionBatch()
    let response = Request.make((2, .number(8)), (3, .number(10)))
    answer.append(member.forwards[0].id, response: response.rawSpan)
    member.services.completed(answer, out: &member.outbox)
    member.settle()
    #expect(Message(member.answers(stream)[0]).number(3) == 10)
  }

  /// What is left of a lease of 1000 s, 650 s after its grant, when the member was started anew.
  private func leftAfterRestart(_ lessor: LessorConfig) throws -> Int64 {
    let member = try Harness(lessor: lessor)
    _ = try member.call(.leaseGrant, Request.make((1, .number(1000)), (2, .number(7))))
    _ = try member.call(.put, Request.put("a", "", lease: 7))
    for _ in 0..<65 { member.pass(10 * Harness.second) }
    let before = try member.call(.leaseTimeToLive, Request.make((1, .number(7))))
    #expect(before.number(3) == 350 && before.number(4) == 1000)
    try member.restart(term: Term(3))
    let after = try member.call(
      .leaseTimeToLive, Request.make((1, .number(7)), (2, .number(1))))
    #expect(after.texts(5) == ["a"] && after.number(4) == 1000)
    return after.number(3)
  }

  @Test func `a restart gives a lease its whole time again, unless checkpoints are kept`() throws {
    let interval = 300 * Harness.second
    var lessor = LessorConfig(ttlMin: 1, revocationsPerSecond: 1000, checkpointInterval: nil)
    #expect((999...1001).contains(try leftAfterRestart(lessor)))
    lessor.checkpointInterval = interval
    #expect((999...1001).contains(try leftAfterRestart(lessor)))
    lessor.keepsCheckpoints = true
    #expect((399...401).contains(try leftAfterRestart(lessor)))
  }

  /// The next leader would count from the checkpoint. Simulated seed 592.
  @Test func `a renewal is told once the log no longer says that little is left`() throws {
    let member = try Harness(
      lessor: LessorConfig(
        ttlMin: 1, revocationsPerSecond: 1000, checkpointInterval: 300 * Harness.second))
    _ = try member.call(.leaseGrant, Request.make((1, .number(1000)), (2, .number(7))))
    for _ in 0..<65 { member.pass(10 * Harness.second) }
    let query = Query(id: 1, kind: .keepAlive(LeaseID(7)))
    var outcome = Outcome(loops: 1)
    member.replica.query(query, now: member.now, into: &outcome)
    // Its answer is that of the entry.
    #expect(outcome.proposals.map(\.id) == [query.id])
    let stream = member.open(.leaseKeepAlive)
    member.send(stream, Request.make((1, .number(7))))
    let answers = member.answers(stream)
    try #require(answers.count == 1)
    #expect(Message(answers[0]).number(2) == 7 && Message(answers[0]).number(3) == 1000)
    outcome.removeAll()
    member.replica.query(query, now: member.now, into: &outcome)
    #expect(outcome.proposals.isEmpty)
  }

  @Test func `a client keeps thousands of leases alive at once, if it reads the answers`() throws {
    let member = try Harness()
    _ = try member.call(.leaseGrant, Request.make((1, .number(10)), (2, .number(7))))
    let stream = member.open(.leaseKeepAlive)
    let request = Request.make((1, .number(7)))
    for _ in 0..<5000 {
      member.services.receive(stream, request.rawSpan, out: &member.outbox)
    }
    member.settle()
    #expect(member.answers(stream).count == 5000)
    #expect(member.end(stream) == nil)
    member.services.writable(stream, false)
    member.send(stream, request)
    #expect(member.end(stream) == .some(.tooMany))
  }
}
