import Basics
import MVCC
import Membership
import Raft
import Replica
import Testing

@testable import Services

@Suite struct Flow {
  @Test func `answers beyond the largest message are refused, and end their calls`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", String(repeating: "x", count: 200)))
    member.outbox = Outbox(bytesMax: 200)
    let failure = Failure(
      .resourceExhausted, "grpc: trying to send message larger than max (245 vs. 200)")
    let call = member.start(.range, Request.get("a"))
    #expect(member.end(call) == .some(failure))
    var batch = CompletionBatch(bytesMax: 100)
    let response = [UInt8](repeating: 0, count: 60)
    batch.append(1, response: response.rawSpan)
    batch.append(2, response: response.rawSpan)
    #expect(batch.items.map { $0.failure == nil } == [true, false])
  }

  @Test func `linearizable reads share one read index, serializable ones need none`() throws {
    let member = try Harness()
    member.isConnected = false
    let first = member.start(.range, Request.get("a"))
    let ticket = member.pendingTicket
    #expect(ticket != nil)
    let second = member.start(.range, Request.get("a"))
    let third = member.start(.range, Request.get("b"))
    #expect(member.pendingTicket == ticket)
    let local = member.start(.range, Request.get("a") + Request.make((7, .number(1))))
    #expect(member.end(local) == .some(.none))
    #expect(member.end(first) == nil)
    member.isConnected = true
    member.settle()
    for call in [first, second, third] { #expect(member.end(call) == .some(.none)) }
  }

  @Test func `a read waits until the log is applied up to its read index`() throws {
    let member = try Harness()
    member.isConnected = false
    let call = member.start(.range, Request.get("a"))
    let ticket = try #require(member.pendingTicket)
    member.pendingTicket = nil
    member.services.readIndexReady(ticket: ticket, index: member.index + 1)
    member.settle()
    #expect(member.end(call) == nil)
    member.commit(.normal, [])
    member.settle()
    #expect(member.end(call) == .some(.none))
  }

  @Test func `an unanswered read index is asked for anew, and an old answer is not taken`() throws {
    let member = try Harness()
    member.isConnected = false
    let call = member.start(.range, Request.get("a"))
    let old = try #require(member.pendingTicket)
    member.pass(600_000_000)
    let new = try #require(member.pendingTicket)
    #expect(new != old)
    member.services.readIndexReady(ticket: old, index: member.index)
    member.settle()
    #expect(member.end(call) == nil)
  }

  @Test func `what is not answered in time is refused in etcd's words`() throws {
    let member = try Harness()
    member.isConnected = false
    let put = member.start(.put, Request.put("a", "1"))
    let range = member.start(.range, Request.get("a"))
    let hurried = member.start(.put, Request.put("a", "1"), timeout: 1_000_000_000)
    member.pass(2 * Harness.second)
    #expect(member.end(hurried) == .some(.deadlineExceeded))
    #expect(member.end(put) == nil)
    member.pass(6 * Harness.second)
    #expect(member.end(put) == .some(.timedOut))
    #expect(member.end(range) == .some(.timedOut))
    member.isConnected = true
    member.settle()
    #expect(member.answers(put).isEmpty)
  }

  @Test func `a leader that is lost fails the reads that asked it`() throws {
    let member = try Harness()
    member.isConnected = false
    let call = member.start(.range, Request.get("a"))
    member.services.status.leader = .none
    member.settle()
    #expect(member.end(call) == .some(.leaderChanged))
  }

  @Test func `streams that need a leader end when there is none for three elections`() throws {
    let member = try Harness()
    let stream = member.open(.leaseKeepAlive, needsLeader: true)
    let other = member.open(.leaseKeepAlive)
    member.services.status.leader = .none
    member.pass(1)
    member.pass(2 * Harness.second)
    #expect(member.end(stream) == nil)
    member.pass(2 * Harness.second)
    #expect(member.end(stream) == .some(.noLeader))
    #expect(member.end(other) == nil)
    let refused = member.open(.put, needsLeader: true)
    member.settle()
    #expect(member.end(refused) == .some(.noLeader))
  }

  @Test func `a cancelled call gets no answer`() throws {
    let member = try Harness()
    member.isConnected = false
    let put = member.start(.put, Request.put("a", "1"))
    let range = member.start(.range, Request.get("a"))
    member.services.cancelled(put, out: &member.outbox)
    member.services.cancelled(range, out: &member.outbox)
    member.isConnected = true
    member.settle()
    #expect(member.end(put) == nil && member.answers(put).isEmpty)
    #expect(member.end(range) == nil && member.answers(range).isEmpty)
    #expect(try member.call(.range, Request.get("a")).number(4) == 1)
  }

  @Test func `more requests than the limit are refused at the door`() throws {
    let member = try Harness {
      $0.requestsInFlightMax = 2
      $0.readsWaitingMax = 1
    }
    member.isConnected = false
    let puts = (0..<3).map { _ in member.start(.put, Request.put("a", "1")) }
    #expect(member.end(puts[2]) == .some(.tooMany))
    let ranges = (0..<2).map { _ in member.start(.range, Request.get("a")) }
    #expect(member.end(ranges[1]) == .some(.tooMany))
    member.isConnected = true
    member.settle()
    #expect(member.end(puts[0]) == .some(.none))
    #expect(throws: Never.self) { try member.call(.put, Request.put("a", "1")) }
  }

  @Test func `a call without a message fails, and a second message is left aside`() throws {
    let member = try Harness()
    let empty = member.open(.put)
    member.services.halfClosed(empty, out: &member.outbox)
    member.settle()
    #expect(member.end(empty)??.code == .unknown)
    let before = member.replica.store.currentRevision
    member.isConnected = false
    let twice = member.open(.put)
    member.send(twice, Request.put("a", "1"))
    member.send(twice, Request.put("a", "1"))
    member.isConnected = true
    member.settle()
    #expect(member.end(twice) == .some(.none))
    #expect(member.replica.store.currentRevision == before + 1)
  }

  @Test func `every path leads to its method and no other does`() {
    for method in Method.allCases {
      let path = [UInt8](method.path)
      #expect(Method(path: path.rawSpan) == method)
      #expect(Method(path: (path + [0x78]).rawSpan) == nil)
    }
  }

  @Test func `the same entries make the same state`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(7))))
    _ = try member.call(.txn, Request.txn([], [(2, Request.put("b", "2", lease: 7))]))
    _ = try member.call(.leaseRevoke, Request.make((1, .number(7))))
    var other = try Harness.makeReplica(MemoryBackend(), quotaBytes: 0)
    var outcome = Outcome(loops: 1)
    other.apply(member.log, now: 5, into: &outcome)
    let revisions = [other.store.currentRevision, member.replica.store.currentRevision]
    #expect(revisions[0] == revisions[1])
    let trees = [other.cluster.tree, member.replica.cluster.tree]
    #expect(trees[0] == trees[1])
    let configurations = [other.configuration, member.replica.configuration]
    #expect(configurations[0] == configurations[1])
  }

  @Test(arguments: [false, true])
  func `a restart goes on from what was saved, applying the rest of the log`(
    withSnapshot: Bool
  ) throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(7))))
    _ = try member.call(.put, Request.put("leased", "", lease: 7))
    _ = try member.call(.alarm, Request.make((1, .number(1)), (2, .number(5)), (3, .number(2))))
    _ = try member.call(.alarm, Request.make((1, .number(2)), (2, .number(5)), (3, .number(2))))
    member.save()
    let snapshot = Snapshot(
      metadata: SnapshotMetadata(
        confState: member.replica.configuration, index: member.index, term: Term(2)),
      data: member.replica.cluster.tree.snapshot)
    _ = try member.call(.put, Request.put("a", "2"))
    _ = try member.call(.put, Request.put("a", "3"))
    let before = try member.call(.hashKV, [])
    let from = withSnapshot ? Int(snapshot.metadata.index.rawValue) : 0
    member.replica = try Harness.makeReplica(
      member.backend, quotaBytes: 0, snapshot: withSnapshot ? snapshot : nil)
    member.replica.apply(Array(member.log[from...]), now: member.now, into: &member.outcome)
    member.outcome.removeAll()
    #expect(try member.call(.hashKV, []) == before)
    #expect(try member.call(.range, Request.get("a")).message(2).text(5) == "3")
    #expect(try member.call(.memberList, []).messages(2).count == 1)
    _ = try member.call(.leaseRevoke, Request.make((1, .number(7))))
    #expect(try member.call(.range, Request.get("leased")).number(4) == 0)
  }

  @Test func `the times of calls that are over are forgotten`() throws {
    let member = try Harness()
    let open = member.open(.watch, timeout: 3600 * Harness.second)
    for _ in 0..<10_000 {
      let call = member.open(.put, timeout: 7200 * Harness.second)
      member.services.cancelled(call, out: &member.outbox)
    }
    #expect(member.services.deadlines.count < 3000)
    member.pass(3601 * Harness.second)
    #expect(member.end(open) == .some(.deadlineExceeded))
  }
}
