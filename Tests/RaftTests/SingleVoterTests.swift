import Basics
import Raft
import Testing

@Suite struct `A single voter` {
  @Test func `leads only once its own vote is durable`() {
    let cluster = Cluster(voters: [1])
    let node = cluster[1]
    node.core.campaign()
    cluster.pump(node)
    #expect(node.output.hardState == HardState(term: Term(1), vote: NodeID(1), commit: .zero))
    #expect(node.output.mustSync)
    #expect(node.core.role == .candidate)
    cluster.finishWrites(node)
    #expect(node.core.role == .leader)
  }

  @Test func `commits a proposal when its write is durable, not before`() throws {
    let cluster = Cluster(voters: [1])
    cluster.elect(1)
    let node = cluster[1]
    try node.core.propose(kind: .normal, data: bytes("a"))
    cluster.pump(node)
    #expect(node.output.entries.map(\.data) == [bytes("a")])
    #expect(node.core.commit == LogIndex(1))
    #expect(node.output.committed.isEmpty)
    cluster.finishWrites(node)
    #expect(node.core.commit == LogIndex(2))
    cluster.pump(node)
    #expect(node.output.committed.map(\.index) == [LogIndex(2)])
  }

  @Test func `takes more outputs while writes are under way`() throws {
    let cluster = Cluster(voters: [1])
    cluster.elect(1)
    let node = cluster[1]
    for text in ["a", "b", "c"] {
      try node.core.propose(kind: .normal, data: bytes(text))
      cluster.pump(node)
      #expect(node.output.entries.map(\.data) == [bytes(text)])
    }
    cluster.finishWrites(node, 2)
    #expect(node.core.commit == LogIndex(3))
    cluster.finishWrites(node)
    #expect(node.core.commit == LogIndex(4))
  }

  @Test func `elects itself by time`() {
    let cluster = Cluster(voters: [1])
    cluster.tick(20)
    #expect(cluster[1].core.role == .leader)
    #expect(cluster[1].core.term == Term(1))
  }

  @Test func `counts terms on from a bootstrap at term 1`() throws {
    let change = ConfChange(
      id: 0, transition: .auto, changes: [.init(.addVoter, NodeID(1))], context: [])
    let entry = Entry(
      term: Term(1), index: LogIndex(1), kind: .confChange, data: change.encoded(as: .confChange))
    var core = Core(
      config: Config(id: NodeID(1), electionTicks: 10, heartbeatTicks: 1),
      hardState: HardState(term: Term(1), vote: .none, commit: LogIndex(1)),
      confState: ConfState(voters: []), snapshot: nil, entries: [entry], applied: .zero, seed: 1)
    core.campaign()
    #expect(core.role == .follower)
    var output = Output()
    core.takeOutput(into: &output)
    #expect(output.committed == [entry])
    _ = try core.applyConfChange(
      ConfChange(kind: .confChange, data: entry.data), at: entry.index)
    core.applied(upTo: LogIndex(1))
    core.campaign()
    #expect(core.term == Term(2))
    core.takeOutput(into: &output)
    core.appended(try #require(output.mark))
    #expect(core.role == .leader)
  }

  @Test func `reads nothing older than what it acknowledged before a restart`() throws {
    // The commit index is not synced for itself: after a crash the disk may hold an older one.
    let cluster = Cluster(voters: [1])
    cluster.elect(1)
    let node = cluster[1]
    try node.core.propose(kind: .normal, data: bytes("a"))
    cluster.settle()
    node.hardState.commit = LogIndex(1)
    node.applied = LogIndex(1)
    node.history.removeLast()
    node.restart(keeping: 0, seed: 2)
    node.core.campaign()
    cluster.pump(node)
    cluster.finishWrites(node)
    #expect(node.read(9))
    cluster.pump(node)
    #expect(node.reads.isEmpty)
    cluster.settle()
    #expect(node.reads.map(\.index) == [LogIndex(3)])
  }
}
