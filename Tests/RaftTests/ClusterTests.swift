import Basics
import Raft
import Testing

@Suite struct `What only a leader may decide` {
  @Test func `is taken in its term and by nobody else`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let term = cluster[1].core.term
    try cluster[1].core.propose(kind: .normal, data: [1], leading: term)
    #expect(throws: ProposeError.noLeader) {
      try cluster[2].core.propose(kind: .normal, data: [2], leading: term)
    }
    cluster.settle()
    cluster[1].core.transferLeadership(to: NodeID(2))
    cluster.settle()
    #expect(throws: ProposeError.noLeader) {
      try cluster[1].core.propose(kind: .normal, data: [3], leading: term)
    }
    #expect(throws: ProposeError.noLeader) {
      try cluster[2].core.propose(kind: .normal, data: [4], leading: term)
    }
    try cluster[1].core.propose(kind: .normal, data: [5], leading: nil)
  }
}

@Suite struct `Proposals that followers send on` {
  @Test func `go on behind a change of members that is refused`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let change = ConfChange(
      id: 1, transition: .auto, changes: [.init(.addLearner, NodeID(9))], context: []
    ).encoded(as: .confChange)
    let entries = [
      Entry(term: .zero, index: .zero, kind: .confChange, data: change),
      Entry(term: .zero, index: .zero, kind: .confChange, data: change),
      Entry(term: .zero, index: .zero, kind: .normal, data: [7]),
    ]
    cluster[1].core.step(
      Message(from: NodeID(2), to: NodeID(1), term: .zero, body: .propose(entries)))
    cluster.settle()
    #expect(cluster[1].core.status.lastIndex == LogIndex(3))
    #expect(cluster[3].history == cluster[1].history)
  }
}

@Suite struct `Reads` {
  @Test func `on a leader wait for a quorum, one round for all of them`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let leader = cluster[1]
    for context in UInt64(1)...5 { #expect(leader.read(context)) }
    cluster.pump(leader)
    #expect(leader.output.messages.count == 2)
    #expect(leader.reads.isEmpty)
    cluster.settle()
    #expect(leader.reads.map(\.context) == [1, 2, 3, 4, 5])
    #expect(leader.reads.allSatisfy { $0.index == LogIndex(1) })
  }

  @Test func `are not answered by a leader that is cut off`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { $0 == NodeID(1) || $1 == NodeID(1) }
    #expect(cluster[1].read(1))
    cluster.settle()
    #expect(cluster[1].reads.isEmpty)
  }

  @Test func `are not confirmed by an answer to an earlier round`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let leader = cluster[1]
    #expect(leader.read(1))
    cluster.pump(leader)
    let early = cluster.network
    cluster.network = []
    #expect(leader.read(2))
    cluster.pump(leader)
    cluster.network = []
    for message in early { cluster.deliver(message) }
    cluster.pump(cluster[2])
    cluster.pump(cluster[3])
    for message in cluster.network { cluster.deliver(message) }
    cluster.pump(leader)
    #expect(leader.reads.map(\.context) == [1])
  }

  @Test func `on a follower are asked of the leader`() {
    let cluster = Cluster(voters: [1, 2, 3], learners: [4])
    cluster.elect(1)
    #expect(cluster[2].read(7))
    #expect(cluster[4].read(8))
    cluster.settle()
    #expect(cluster[2].reads.map(\.context) == [7])
    #expect(cluster[4].reads.map(\.context) == [8])
  }

  @Test func `are refused without a leader`() {
    let cluster = Cluster(voters: [1, 2, 3])
    #expect(!cluster[1].read(1))
  }

  @Test func `are refused beyond the limit`() {
    let cluster = Cluster(voters: [1, 2, 3]) { $0.pendingReadsMax = 2 }
    cluster.elect(1)
    #expect(cluster[1].read(1) && cluster[1].read(2))
    #expect(!cluster[1].read(3))
  }

  @Test func `wait for the first commit of a new leader`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster[2].core.campaign()
    cluster.isCut = { _, to in to == NodeID(1) }
    cluster.tick(40)
    let leader = cluster.leader!
    #expect(leader.id != NodeID(1))
    let before = leader.core.commit
    #expect(leader.read(1))
    cluster.settle()
    #expect(leader.reads.last!.index >= before)
    #expect(leader.core.term(at: leader.reads.last!.index) == leader.core.term)
  }

  @Test func `with any context of another member are echoed`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let context = bytes("anything of any length")
    cluster.deliver(
      Message(from: NodeID(2), to: NodeID(1), term: .zero, body: .readIndex(context: context)))
    var answers: [Message] = []
    cluster.onOutput = { answers += $0.output.messages }
    cluster.settle()
    #expect(
      answers.contains { $0.body == .readIndexResponse(index: LogIndex(1), context: context) })
  }
}

@Suite struct `Leadership` {
  @Test func `is handed over to a member that is up to date`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster[1].core.transferLeadership(to: NodeID(2))
    cluster.settle()
    #expect(cluster.leader?.id == NodeID(2))
    #expect(cluster[1].core.leader == NodeID(2))
  }

  @Test func `is handed over at the wish of a follower`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster[3].core.transferLeadership(to: NodeID(3))
    cluster.settle()
    #expect(cluster.leader?.id == NodeID(3))
  }

  @Test func `takes no proposals while it is handed over, for one timeout at most`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { _, to in to == NodeID(3) }
    try cluster[1].propose("a")
    cluster.settle()
    cluster[1].core.transferLeadership(to: NodeID(3))
    #expect(throws: ProposeError.transferring) { try cluster[1].propose("b") }
    cluster.tick(10)
    try cluster[1].propose("b")
  }

  @Test func `is not handed over to a learner`() {
    let cluster = Cluster(voters: [1, 2], learners: [3])
    cluster.elect(1)
    cluster[1].core.transferLeadership(to: NodeID(3))
    #expect(cluster[1].core.status.transferTarget == .none)
  }

  @Test func `ends when no quorum is heard`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { $0 == NodeID(1) || $1 == NodeID(1) }
    cluster.tick(20)
    #expect(cluster[1].core.role != .leader)
    #expect(cluster.leader != nil)
  }

  @Test func `is not disturbed by a member that comes back`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let term = cluster[1].core.term
    cluster.isCut = { $0 == NodeID(3) || $1 == NodeID(3) }
    cluster.tick(60)
    cluster.isCut = { _, _ in false }
    cluster.tick(60)
    #expect(cluster[1].core.role == .leader)
    #expect(cluster[3].core.term == term)
  }
}

private func isSnapshot(_ message: Message) -> Bool {
  guard case .snapshot = message.body else { return false }
  return true
}

@Suite struct `Replication` {
  @Test func `sends one append for all proposals between two outputs`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    for text in ["a", "b", "c"] { try cluster[1].propose(text) }
    cluster.pump(cluster[1])
    let sent = cluster[1].output.messages
    #expect(sent.count == 2)
    guard case .append(let append) = sent[0].body else {
      Issue.record("not an append")
      return
    }
    #expect(append.entries.count == 3)
  }

  @Test func `stops at the limit of appends in flight and goes on with an answer`() throws {
    let cluster = Cluster(voters: [1, 2]) { $0.inflightCountMax = 3 }
    cluster.elect(1)
    let leader = cluster[1]
    var sent = 0
    for index in 0..<6 {
      try leader.propose("\(index)")
      cluster.pump(leader)
      sent += leader.output.messages.count
    }
    #expect(sent == 3)
    cluster.settle()
    #expect(cluster[2].history == leader.history)
    #expect(leader.history.count == 7)
  }

  @Test func `recovers from lost appends through heartbeats`() throws {
    let cluster = Cluster(voters: [1, 2]) { $0.inflightCountMax = 2 }
    cluster.elect(1)
    cluster.isCut = { _, to in to == NodeID(2) }
    for text in ["a", "b", "c"] {
      try cluster[1].propose(text)
      cluster.settle()
    }
    cluster.isCut = { _, _ in false }
    cluster.tick(8)
    #expect(cluster[2].history.count == 4)
  }

  @Test func `brings a follower back by snapshot once the log was compacted`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { _, to in to == NodeID(3) }
    for index in 0..<20 {
      try cluster[1].propose("\(index)")
      cluster.settle()
    }
    cluster[1].core.compact(upTo: LogIndex(18))
    var snapshots = 0
    cluster.onOutput = { if $0.output.snapshot != nil { snapshots += 1 } }
    cluster.isCut = { _, _ in false }
    cluster.tick(5)
    #expect(snapshots == 1)
    #expect(cluster[3].history == cluster[1].history)
    try cluster[1].propose("more")
    cluster.settle()
    #expect(cluster[3].history == cluster[1].history)
    let others = cluster[1].core.status.progress.filter { $0.id != NodeID(1) }
    #expect(others.allSatisfy { $0.state == .replicate })
  }

  @Test func `sends no snapshot that leaves a gap behind it, and asks for another`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { _, to in to == NodeID(3) }
    for index in 0..<20 {
      try cluster[1].propose("\(index)")
      cluster.settle()
    }
    let old = Snapshot(
      metadata: SnapshotMetadata(
        confState: cluster[1].confState, index: LogIndex(10), term: cluster[1].core.term),
      data: [])
    cluster[1].core.compact(upTo: LogIndex(18))
    var refused = 0
    cluster.onOutput = {
      guard $0.output.snapshotsWanted == [NodeID(3)], refused == 0 else { return }
      refused += 1
      let message = $0.core.snapshotMessage(old, to: NodeID(3))
      #expect(message == nil)
    }
    cluster.isCut = { _, _ in false }
    cluster.tick(5)
    #expect(refused == 1)
    #expect(cluster[3].history == cluster[1].history)
  }

  /// Found by a simulated seed whose leader never came to an end with its output.
  @Test func `owes nothing to a silent follower that only a snapshot could help`() throws {
    let cluster = Cluster(voters: [1, 2, 3]) { $0.checkQuorum = true }
    cluster.elect(1)
    cluster.isCut = { from, to in from == NodeID(3) || to == NodeID(3) }
    for index in 0..<5 {
      try cluster[1].propose("\(index)")
      cluster.settle()
    }
    cluster.tick(30)
    cluster[1].core.compact(upTo: LogIndex(5))
    cluster[1].core.reportUnreachable(NodeID(3))
    cluster.pump(cluster[1])
    #expect(!cluster[1].hasOutput)
    cluster.isCut = { _, _ in false }
    cluster.tick(30)
    #expect(cluster[3].history.count >= 6)
    #expect(cluster[3].history == cluster[1].history)
  }

  @Test func `asks for a snapshot again when one was lost`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    cluster.isCut = { _, to in to == NodeID(3) }
    for index in 0..<5 {
      try cluster[1].propose("\(index)")
      cluster.settle()
    }
    cluster[1].core.compact(upTo: LogIndex(5))
    cluster.isCut = { _, _ in false }
    var wanted = 0
    cluster.onOutput = { wanted += $0.output.snapshotsWanted.count }
    for node in cluster.nodes { node.core.tick() }
    while wanted == 0 {
      for node in cluster.nodes {
        cluster.pump(node)
        cluster.finishWrites(node)
      }
      let batch = cluster.network
      cluster.network = batch.filter(isSnapshot)
      for message in batch where !isSnapshot(message) { cluster.deliver(message) }
    }
    for message in cluster.network { cluster.lose(message) }
    cluster.network = []
    cluster.tick(4)
    #expect(wanted == 2)
    #expect(cluster[3].history == cluster[1].history)
  }

  @Test func `refuses proposals beyond the uncommitted limit, never the first`() throws {
    let cluster = Cluster(voters: [1, 2, 3]) { $0.uncommittedBytesMax = 10 }
    cluster.elect(1)
    cluster.isCut = { _, _ in true }
    try cluster[1].propose("longer than the limit")
    #expect(throws: ProposeError.tooManyUncommitted) { try cluster[1].propose("b") }
    cluster.isCut = { _, _ in false }
    cluster.settle()
    try cluster[1].propose("b")
  }

  @Test func `takes proposals of followers`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    try cluster[2].propose("a")
    cluster.settle()
    #expect(cluster[3].history.last?.data == bytes("a"))
    #expect(throws: ProposeError.noLeader) { try Cluster(voters: [1, 2])[1].propose("a") }
  }

  @Test(arguments: [
    Message.Body.heartbeat(commit: LogIndex(.max), context: []),
    .appendResponse(.init(index: LogIndex(.max), rejection: nil)),
    .append(
      .init(
        previousIndex: LogIndex(0), previousTerm: Term(0), commit: LogIndex(0),
        entries: [Entry(term: Term(1), index: LogIndex(5), kind: .normal, data: [])])),
    .propose([]),
    .vote(.init(lastIndex: LogIndex(.max), lastTerm: Term(.max), isTransfer: true)),
  ])
  func `drops a message whose numbers cannot be`(body: Message.Body) {
    let cluster = Cluster(voters: [1, 2, 3])
    let node = cluster[1]
    node.core.step(Message(from: NodeID(2), to: NodeID(1), term: Term(1), body: body))
    #expect(!node.hasOutput)
  }
}

@Suite struct `Members` {
  private func propose(_ cluster: Cluster, _ change: ConfChange) throws {
    try cluster.leader!.core.propose(
      kind: .confChangeV2, data: change.encoded(as: .confChangeV2))
    cluster.settle()
  }

  private func simple(_ action: ConfChange.Action, _ id: UInt64) -> ConfChange {
    ConfChange(id: 0, transition: .auto, changes: [.init(action, NodeID(id))], context: [])
  }

  @Test func `come as learners, catch up and vote`() throws {
    let cluster = Cluster(voters: [1], others: [2])
    cluster.elect(1)
    try propose(cluster, simple(.addLearner, 2))
    cluster.tick(2)
    #expect(cluster[2].history == cluster[1].history)
    #expect(cluster[2].core.confState.learners == [NodeID(2)])
    try propose(cluster, simple(.addVoter, 2))
    cluster.tick(2)
    #expect(cluster[2].core.confState.voters == [NodeID(1), NodeID(2)])
  }

  /// The state machine may be told of the snapshot while it still applies what came before.
  @Test func `of before a snapshot are in its configuration already`() throws {
    let node = Cluster(voters: [1, 2, 3])[1]
    let metadata = SnapshotMetadata(
      confState: ConfState(voters: [NodeID(1), NodeID(2)]), index: LogIndex(10), term: Term(1))
    node.core.step(
      Message(
        from: NodeID(2), to: NodeID(1), term: Term(1),
        body: .snapshot(Snapshot(metadata: metadata, data: []))))
    _ = try node.core.applyConfChange(simple(.addVoter, 3), at: LogIndex(5))
    #expect(node.core.confState == metadata.confState)
    _ = try node.core.applyConfChange(simple(.addVoter, 3), at: LogIndex(11))
    #expect(node.core.confState.voters.count == 3)
  }

  @Test func `change one at a time`() throws {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let data = simple(.remove, 3).encoded(as: .confChangeV2)
    try cluster[1].core.propose(kind: .confChangeV2, data: data)
    #expect(throws: ProposeError.confChangeRefused) {
      try cluster[1].core.propose(kind: .confChangeV2, data: data)
    }
    cluster.settle()
    #expect(cluster[1].core.confState.voters == [NodeID(1), NodeID(2)])
  }

  @Test func `change together through a joint configuration that ends by itself`() throws {
    let cluster = Cluster(voters: [1, 2, 3], others: [4, 5])
    cluster.elect(1)
    let change = ConfChange(
      id: 0, transition: .auto,
      changes: [
        .init(.addVoter, NodeID(4)), .init(.addVoter, NodeID(5)), .init(.remove, NodeID(2)),
      ], context: [])
    try propose(cluster, change)
    cluster.tick(5)
    for id in [1, 3, 4, 5] as [UInt64] {
      #expect(cluster[id].core.confState == ConfState(voters: [1, 3, 4, 5].map(NodeID.init)))
    }
  }

  // Of two members the one that stays cannot elect itself before it knows that it is alone.
  @Test func `that lead and are removed go on until the others know`() throws {
    let cluster = Cluster(voters: [1, 2])
    cluster.elect(1)
    let data = simple(.remove, 1).encoded(as: .confChangeV2)
    try cluster[1].core.propose(kind: .confChangeV2, data: data)
    cluster.pump(cluster[1])
    for message in cluster.network { cluster.deliver(message) }
    cluster.network = []
    cluster.pump(cluster[2])
    for message in cluster.network { cluster.deliver(message) }
    cluster.network = []
    // What would tell the other of the commit is lost.
    cluster.isCut = { from, _ in from == NodeID(1) }
    cluster.settle()
    #expect(cluster[1].core.confState.voters == [NodeID(2)])
    #expect(cluster[2].core.confState.voters == [NodeID(1), NodeID(2)])
    #expect(throws: ProposeError.notMember) {
      try cluster[1].core.propose(kind: .normal, data: [1])
    }
    cluster.isCut = { _, _ in false }
    cluster.tick(3)
    #expect(cluster[2].core.confState.voters == [NodeID(2)])
    cluster.isCut = { $0 == NodeID(1) || $1 == NodeID(1) }
    cluster.tick(40)
    #expect(cluster[2].core.role == .leader)
  }

  @Test func `that only learn never stand for election`() {
    let cluster = Cluster(voters: [1, 2], learners: [3])
    for _ in 0..<100 { cluster[3].core.tick() }
    cluster[3].core.campaign()
    #expect(cluster[3].core.role == .follower)
    #expect(!cluster[3].hasOutput)
  }
}
