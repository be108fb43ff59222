import Basics
import MVCC
import Membership
import Raft
import Replica
import Services
import Testing

@Suite struct Maintenance {
  @Test func `a status has all that 3.5 tells`() throws {
    let member = try Harness()
    member.save()
    let status = try member.call(.status, [])
    #expect(status.text(2) == "3.5.21")
    #expect(status.number(3) > 0 && status.number(9) > 0)
    #expect(status.number(4) == Int64(bitPattern: Harness.member.rawValue))
    #expect(status.number(5) == 2 && status.number(6) == 2 && status.number(7) == 2)
    #expect(status.messages(8).isEmpty)
    member.services.status.leader = .none
    #expect(try member.call(.status, []).texts(8) == ["etcdserver: no leader"])
  }

  @Test func `an alarm is raised, refuses writes, is listed and disarmed`() throws {
    let member = try Harness()
    let raise = Request.make((1, .number(1)), (2, .number(5)), (3, .number(1)))
    #expect(try member.call(.alarm, raise).messages(2).count == 1)
    #expect(throws: Failure.noSpace) { try member.call(.put, Request.put("a", "1")) }
    #expect(throws: Failure.noSpace) {
      try member.call(.txn, Request.txn([], [(2, Request.put("a", "1"))]))
    }
    #expect(throws: Failure.noSpace) {
      try member.call(.leaseGrant, Request.make((1, .number(60))))
    }
    #expect(throws: Never.self) { try member.call(.deleteRange, Request.get("a")) }
    #expect(try member.call(.status, []).texts(8) == ["memberID:5 alarm:NOSPACE "])
    #expect(try member.call(.alarm, []).message(2).number(2) == 1)
    let clear = Request.make((1, .number(2)), (2, .number(5)), (3, .number(1)))
    #expect(try member.call(.alarm, clear).messages(2).count == 1)
    #expect(try member.call(.alarm, []).messages(2).isEmpty)
    #expect(throws: Never.self) { try member.call(.put, Request.put("a", "1")) }
  }

  @Test func `a corrupt cluster writes nothing`() throws {
    let member = try Harness()
    let raise = Request.make((1, .number(1)), (2, .number(5)), (3, .number(2)))
    _ = try member.call(.alarm, raise)
    for (method, request) in [
      (.put, Request.put("a", "1")), (.deleteRange, Request.get("a")),
      (.compact, Request.make((1, .number(1)))), (.leaseRevoke, Request.make((1, .number(1)))),
      (.leaseGrant, Request.make((1, .number(9)))),
    ] as [(Method, [UInt8])] {
      #expect(throws: Failure.corrupt) { try member.call(method, request) }
    }
  }

  @Test func `a full backend raises the alarm at the door`() throws {
    let member = try Harness(quotaBytes: 1)
    #expect(throws: Failure.noSpace) { try member.call(.put, Request.put("a", "1")) }
    #expect(member.replica.alarms.isActive(.noSpace))
    #expect(throws: Never.self) { try member.call(.range, Request.get("a")) }
  }

  @Test func `a hash covers the revisions up to the one asked for`() throws {
    let member = try Harness()
    for value in 1...5 { _ = try member.call(.put, Request.put("a", "\(value)")) }
    let all = try member.call(.hashKV, [])
    #expect(all.revision == 6 && all.number(2) != 0 && all.number(3) == -1)
    let early = try member.call(.hashKV, Request.make((1, .number(3))))
    #expect(early.number(2) != all.number(2))
    _ = try member.call(.put, Request.put("a", "6"))
    let again = try member.call(.hashKV, Request.make((1, .number(6))))
    #expect(again.number(2) == all.number(2))
    #expect(throws: Failure.futureRevision) {
      try member.call(.hashKV, Request.make((1, .number(99))))
    }
    _ = try member.call(.compact, Request.make((1, .number(4)), (2, .number(1))))
    #expect(throws: Failure.compacted) {
      try member.call(.hashKV, Request.make((1, .number(3))))
    }
    let compacted = try member.call(.hashKV, Request.make((1, .number(4))))
    #expect(compacted.number(3) == 4 && member.replica.compactionHashes.isEmpty)
    member.save()
    let whole = try member.call(.hash, [])
    let same = try member.call(.hash, [])
    #expect(whole.number(2) != 0 && whole == same)
  }

  @Test func `what compactions found is remembered for a while`() throws {
    let member = try Harness(hashesCompactions: true)
    var found: [(revision: Int64, hash: Int64)] = []
    for value in 1...36 {
      let revision = try member.call(.put, Request.put("a\(value % 3)", "\(value)")).revision
      guard value % 3 == 0 else { continue }
      let whole = try member.call(.hashKV, Request.make((1, .number(revision - 1))))
      found.append((revision - 1, whole.number(2)))
      // The answer to a physical compaction comes when its rows are gone.
      _ = try member.call(.compact, Request.make((1, .number(revision - 1)), (2, .number(1))))
      #expect(!member.replica.isCompacting && !member.replica.store.isCompacting)
    }
    #expect(member.replica.compactionHashes.map(\.revision) == found.suffix(10).map(\.revision))
    for place in 2..<found.count {
      let answer = try member.call(.hashKV, Request.make((1, .number(found[place].revision))))
      #expect(answer.number(2) == found[place].hash)
      #expect(answer.number(3) == found[place - 1].revision)
    }
    #expect(throws: Failure.compacted) {
      try member.call(.hashKV, Request.make((1, .number(found[1].revision))))
    }
  }

  @Test func `a snapshot's messages go out in order until its end or its client's`() throws {
    let member = try Harness()
    let (call, other) = (member.start(.snapshot, []), member.start(.snapshot, []))
    #expect(member.snapshots == [call, other])
    let blob: [UInt8] = [1, 2, 3]
    for left in [3, 0] {
      let message = SnapshotMessage.encode(blob.rawSpan, remaining: left)
      member.services.snapshot(call, message.rawSpan, out: &member.outbox)
    }
    member.services.snapshotEnded(call, nil, out: &member.outbox)
    member.services.snapshotEnded(call, .tooMany, out: &member.outbox)
    member.services.cancelled(other, out: &member.outbox)
    member.services.snapshot(other, blob.rawSpan, out: &member.outbox)
    member.settle()
    let answers = member.answers(call).map { Message($0) }
    #expect(answers.map { $0.number(2) } == [3, 0])
    #expect(answers.map { $0.message(3).bytes } == [blob, blob])
    #expect(member.end(call) == .some(nil) && member.end(other) == nil)
    #expect(member.answers(other).isEmpty)
  }

  @Test func `leadership moves to a voter only`() throws {
    let member = try Harness()
    #expect(throws: Failure.badTransferee) {
      try member.call(.moveLeader, Request.make((1, .number(5))))
    }
    let own = Int64(bitPattern: Harness.member.rawValue)
    #expect(try member.call(.moveLeader, Request.make((1, .number(own)))).bytes == [])
    member.services.status.leader = NodeID(5)
    #expect(throws: Failure.notLeader) { try member.call(.moveLeader, []) }
  }

  @Test func `a downgrade is validated, enabled and cancelled`() throws {
    let member = try Harness()
    func downgrade(_ action: Int64, _ version: String) throws(Failure) -> Message {
      try member.call(.downgrade, Request.make((1, .number(action)), (2, .text(version))))
    }
    #expect(throws: Failure.clusterVersionUnavailable) { try downgrade(0, "3.4") }
    let version = V2Request.version(ClusterVersion(major: 3, minor: 5, patch: 0), id: 1)
    member.commit(.normal, V2Wire.encode(version))
    #expect(throws: Failure.downgradeFormat) { try downgrade(0, "x") }
    #expect(throws: Failure.downgradeTarget) { try downgrade(0, "3.3") }
    #expect(throws: Failure.noDowngrade) { try downgrade(2, "") }
    #expect(try downgrade(0, "3.4").text(2) == "3.5.0")
    #expect(try downgrade(1, "3.4.0").text(2) == "3.5.0")
    #expect(throws: Failure.downgradeInProgress) { try downgrade(0, "3.4") }
    #expect(try downgrade(2, "").text(2) == "3.5.0")
    #expect(throws: Never.self) { try downgrade(0, "3.4") }
  }

  @Test func `health is served, and an unknown service is not known`() throws {
    let member = try Harness()
    #expect(try member.call(.healthCheck, []).number(1) == 1)
    #expect(throws: Failure(.notFound, "unknown service")) {
      try member.call(.healthCheck, Request.make((1, .text("x"))))
    }
    let watch = member.start(.healthWatch, [])
    #expect(member.answers(watch) == [[8, 1]])
    #expect(member.end(watch) == nil)
  }
}

@Suite struct ClusterService {
  private func add(_ url: String, isLearner: Bool = false) -> [UInt8] {
    Request.make((1, .text(url)), (2, .number(isLearner ? 1 : 0)))
  }

  @Test func `members are listed without a revision in the header`() throws {
    let member = try Harness()
    for linearizable in [0, 1] as [Int64] {
      let list = try member.call(.memberList, Request.make((1, .number(linearizable))))
      #expect(list.message(1).numbers(3).isEmpty)
      #expect(list.message(2).texts(3) == ["http://localhost:2380"])
    }
  }

  @Test func `a learner is added, promoted when ready, updated and removed`() throws {
    let member = try Harness()
    let own = Member(
      id: Harness.member, name: "m", peerURLs: [], clientURLs: ["http://localhost:2379"],
      isLearner: false)
    member.commit(.normal, V2Wire.encode(.publish(own, id: 1)))
    let added = try member.call(.memberAdd, add("http://b:1", isLearner: true))
    let id = added.message(2).number(1)
    #expect(id != 0 && added.message(2).number(5) == 1)
    #expect(added.messages(3).count == 2)
    #expect(throws: Failure.tooManyLearners) {
      try member.call(.memberAdd, add("http://c:1", isLearner: true))
    }
    // Raft has not told of it yet, and knows nothing of a stranger.
    #expect(throws: Failure.learnerNotReady) {
      try member.call(.memberPromote, Request.make((1, .number(id))))
    }
    #expect(throws: Failure.memberNotFound) {
      try member.call(.memberPromote, Request.make((1, .number(id ^ 1))))
    }
    let node = NodeID(UInt64(bitPattern: id))
    member.services.status.progress = [(node, false)]
    #expect(throws: Failure.learnerNotReady) {
      try member.call(.memberPromote, Request.make((1, .number(id))))
    }
    member.services.status.progress = [(node, true)]
    let promoted = try member.call(.memberPromote, Request.make((1, .number(id))))
    #expect(promoted.messages(2).map { $0.number(5) } == [0, 0])
    #expect(member.replica.configuration.voters.contains(node))
    let update = Request.make((1, .number(id)), (2, .text("http://b:9")))
    let updated = try member.call(.memberUpdate, update)
    #expect(updated.messages(2).flatMap { $0.texts(3) }.contains("http://b:9"))
    let removed = try member.call(.memberRemove, Request.make((1, .number(id))))
    #expect(removed.messages(2).count == 1)
    #expect(throws: Failure.memberNotFound) {
      try member.call(.memberRemove, Request.make((1, .number(id))))
    }
  }

  @Test func `changes that may not be are refused in etcd's words`() throws {
    let member = try Harness()
    #expect(throws: Failure.badMemberURLs) { try member.call(.memberAdd, add("nonsense")) }
    #expect(throws: Failure.notEnoughStarted) { try member.call(.memberAdd, add("http://b:1")) }
    #expect(throws: Failure.peerURLExists) {
      try member.call(.memberAdd, add("http://localhost:2380", isLearner: true))
    }
    let own = Int64(bitPattern: Harness.member.rawValue)
    #expect(throws: Failure.notEnoughStarted) {
      try member.call(.memberRemove, Request.make((1, .number(own))))
    }
  }
}
