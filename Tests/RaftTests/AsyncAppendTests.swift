import Basics
import Raft
import Testing

/// A follower that is fed by hand; its leader is node 2 or 3.
private func makeFollower() -> Node {
  let node = Cluster(voters: [1, 2, 3])[1]
  return node
}

private func append(
  from: UInt64, term: UInt64, previous: (index: UInt64, term: UInt64), entries: [Entry],
  commit: UInt64 = 0
) -> Message {
  Message(
    from: NodeID(from), to: NodeID(1), term: Term(term),
    body: .append(
      .init(
        previousIndex: LogIndex(previous.index), previousTerm: Term(previous.term),
        commit: LogIndex(commit), entries: entries)))
}

private func entry(_ index: UInt64, term: UInt64) -> Entry {
  Entry(term: Term(term), index: LogIndex(index), kind: .normal, data: [])
}

private func acknowledged(_ messages: [Message]) -> [UInt64] {
  messages.compactMap {
    guard case .appendResponse(let response) = $0.body, response.rejection == nil else {
      return nil
    }
    return response.index.rawValue
  }
}

@Suite struct `Writes under way` {
  @Test func `hold back what acknowledges them`() {
    let node = makeFollower()
    node.core.step(append(from: 2, term: 1, previous: (0, 0), entries: [entry(1, term: 1)]))
    node.core.takeOutput(into: &node.output)
    #expect(node.output.messages.isEmpty)
    #expect(acknowledged(node.output.then) == [1])
    #expect(node.output.mustSync)
  }

  @Test func `hold back a repeated acknowledgement too`() throws {
    // The second append brings nothing new, yet what it would acknowledge is not durable.
    let node = makeFollower()
    let message = append(from: 2, term: 1, previous: (0, 0), entries: [entry(1, term: 1)])
    node.core.step(message)
    node.core.takeOutput(into: &node.output)
    let first = try #require(node.output.mark)
    node.core.step(message)
    node.core.takeOutput(into: &node.output)
    #expect(node.output.messages.isEmpty)
    #expect(node.output.entries.isEmpty && !node.output.mustSync)
    #expect(acknowledged(node.output.then) == [1])
    let second = try #require(node.output.mark)
    node.core.appended(first)
    node.core.appended(second)
    node.core.step(message)
    node.core.takeOutput(into: &node.output)
    #expect(node.output.mark == nil)
    #expect(acknowledged(node.output.messages) == [1])
  }

  @Test func `count only up to where the log was cut since`() throws {
    let node = makeFollower()
    node.core.step(
      append(
        from: 2, term: 1, previous: (0, 0), entries: [1, 2, 3].map { entry($0, term: 1) }))
    node.core.takeOutput(into: &node.output)
    let old = try #require(node.output.mark)
    node.core.step(append(from: 3, term: 2, previous: (1, 1), entries: [entry(2, term: 2)]))
    node.core.takeOutput(into: &node.output)
    let new = try #require(node.output.mark)
    node.core.appended(old)
    #expect(node.core.status.stableIndex == LogIndex(1))
    node.core.appended(new)
    #expect(node.core.status.stableIndex == LogIndex(2))
  }

  @Test func `are not mistaken when the same entries come back`() throws {
    // 2@1 is cut by 2@2 and comes back under term 3: the first write of 2@1 proves nothing, for
    // the write of 2@2 is still to follow it onto the disk.
    let node = makeFollower()
    let first = entry(1, term: 1)
    let second = entry(2, term: 1)
    var marks: [WriteMark] = []
    let messages = [
      append(from: 2, term: 1, previous: (0, 0), entries: [first, second]),
      append(from: 3, term: 2, previous: (1, 1), entries: [entry(2, term: 2)]),
      append(from: 2, term: 3, previous: (1, 1), entries: [second, entry(3, term: 3)]),
    ]
    for message in messages {
      node.core.step(message)
      node.core.takeOutput(into: &node.output)
      marks.append(try #require(node.output.mark))
    }
    #expect(node.core.lastIndex == LogIndex(3))
    node.core.appended(marks[0])
    #expect(node.core.status.stableIndex == LogIndex(1))
    node.core.appended(marks[1])
    #expect(node.core.status.stableIndex == LogIndex(1))
    node.core.appended(marks[2])
    #expect(node.core.status.stableIndex == LogIndex(3))
  }

  @Test func `are all acknowledged by the newest`() throws {
    let node = makeFollower()
    for index in UInt64(1)...3 {
      node.core.step(
        append(
          from: 2, term: 1, previous: (index - 1, index == 1 ? 0 : 1),
          entries: [entry(index, term: 1)]))
      node.core.takeOutput(into: &node.output)
    }
    node.core.appended(try #require(node.output.mark))
    #expect(node.core.status.stableIndex == LogIndex(3))
  }

  @Test func `keep entries from being applied that are committed elsewhere`() throws {
    let node = makeFollower()
    node.core.step(
      append(from: 2, term: 1, previous: (0, 0), entries: [entry(1, term: 1)], commit: 1))
    node.core.takeOutput(into: &node.output)
    #expect(node.core.commit == LogIndex(1))
    #expect(node.output.committed.isEmpty)
    node.core.appended(try #require(node.output.mark))
    node.core.takeOutput(into: &node.output)
    #expect(node.output.committed.map(\.index) == [LogIndex(1)])
  }

  @Test func `let a leader send, but not count itself`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let leader = cluster[1]
    try leader.propose("a")
    cluster.pump(leader)
    #expect(leader.output.messages.count == 2)
    // One follower has it, the leader's own disk does not: no quorum yet.
    let message = try #require(cluster.network.first { $0.to == NodeID(2) })
    cluster.network = []
    cluster.deliver(message)
    cluster.pump(cluster[2])
    cluster.finishWrites(cluster[2])
    for answer in cluster.network { cluster.deliver(answer) }
    #expect(leader.core.commit == LogIndex(1))
    cluster.finishWrites(leader)
    #expect(leader.core.commit == LogIndex(2))
  }

  @Test func `hold back a vote and the wish for votes`() {
    let cluster = Cluster(voters: [1, 2, 3]) { $0.preVote = false }
    let candidate = cluster[1]
    candidate.core.campaign()
    cluster.pump(candidate)
    #expect(candidate.output.messages.isEmpty)
    #expect(candidate.output.then.count == 2)
    cluster.finishWrites(candidate)
    let voter = cluster[2]
    for message in cluster.network where message.to == voter.id { cluster.deliver(message) }
    cluster.pump(voter)
    #expect(voter.output.messages.isEmpty)
    #expect(voter.output.then.map(\.body) == [.voteResponse(isRejected: false)])
    #expect(voter.output.hardState?.vote == NodeID(1))
  }

  @Test func `bound what is applied at a time`() throws {
    let cluster = Cluster(voters: [1]) { $0.applyingBytesMax = 100 }
    cluster.elect(1)
    let node = cluster[1]
    for _ in 0..<5 { try node.core.propose(kind: .normal, data: [UInt8](repeating: 0, count: 20)) }
    cluster.pump(node)
    cluster.finishWrites(node)
    cluster.pump(node)
    #expect(node.output.committed.count == 2)
    #expect(!node.hasOutput)
    cluster.apply(node, 1)
    cluster.pump(node)
    #expect(node.output.committed.count == 1)
  }
}
