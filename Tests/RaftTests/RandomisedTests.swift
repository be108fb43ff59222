import Basics
import Raft
import Testing

/// What Raft promises, checked as a run goes. Thesis figure 3.2.
private final class Watch {
  var leaders: [UInt64: NodeID] = [:]
  /// What was applied anywhere, by index.
  var history: [Entry] = []
  var terms: [NodeID: Term] = [:]
  var commits: [NodeID: LogIndex] = [:]
  var failure: String?

  func fail(_ text: String) { if failure == nil { failure = text } }

  /// Election Safety and Leader Completeness; terms and commits never fall.
  func look(at node: Node) {
    let id = node.id
    if node.core.term < terms[id, default: .zero] { fail("\(id) went back in terms") }
    terms[id] = node.core.term
    if node.core.commit < commits[id, default: .zero] { fail("\(id) went back in commits") }
    commits[id] = node.core.commit
    guard node.core.role == .leader else { return }
    let term = node.core.term.rawValue
    guard leaders[term] != id else { return }
    if leaders[term] != nil { fail("two leaders in term \(term)") }
    leaders[term] = id
    for entry in history where entry.index >= node.core.firstIndex {
      if node.core.term(at: entry.index) != entry.term {
        fail("leader \(id) of term \(term) lacks entry \(entry.index)")
      }
    }
  }

  /// State Machine Safety; what is applied is on the disks of a quorum.
  func applied(_ entry: Entry, on node: Node, in cluster: Cluster, isFixed: Bool) {
    let position = Int(entry.index.rawValue) - 1
    if position < history.count {
      if history[position] != entry { fail("\(node.id) applied another entry \(entry.index)") }
      return
    }
    history.append(entry)
    guard isFixed else { return }
    let holders = cluster.nodes.filter { other in
      other.snapshot.map { $0.index >= entry.index } ?? false
        || other.log.contains { $0.index == entry.index && $0.term == entry.term }
    }
    if holders.count <= cluster.nodes.count / 2 { fail("\(entry.index) is on too few disks") }
  }

  /// Log Matching: where two logs have the same term at an index, they are the same below.
  func compareLogs(_ nodes: [Node]) {
    for (position, a) in nodes.enumerated() {
      for b in nodes[(position + 1)...] {
        var index = min(a.core.lastIndex, b.core.lastIndex)
        let first = max(a.core.firstIndex, b.core.firstIndex)
        var mustMatch = false
        while index >= first {
          let isSame = a.core.term(at: index) == b.core.term(at: index)
          if mustMatch && !isSame { fail("logs of \(a.id) and \(b.id) differ at \(index)") }
          if isSame { mustMatch = true }
          index = LogIndex(index.rawValue - 1)
        }
      }
    }
  }
}

/// One run of a cluster under one seed.
private final class Run {
  let cluster: Cluster
  let watch = Watch()
  var random: Random
  let changesMembers: Bool
  var cut: [Bool]
  var context: UInt64 = 0
  /// What was applied somewhere when a read was asked for.
  var readFloors: [UInt64: Int] = [:]
  var readsAnswered = 0

  init(seed: UInt64, changesMembers: Bool) {
    random = Random(seed: seed)
    self.changesMembers = changesMembers
    let count = changesMembers ? 3 : [3, 3, 3, 5][random.next(below: 4)]
    let preVote = random.chance(1, in: 2)
    let checkQuorum = random.chance(1, in: 2)
    let small = random.chance(1, in: 2)
    cluster = Cluster(
      voters: (1...UInt64(count)).map { $0 }, others: changesMembers ? [4, 5] : [], seed: seed
    ) {
      $0.electionTicks = 4
      $0.preVote = preVote
      $0.checkQuorum = checkQuorum
      if small {
        $0.messageBytesMax = 60
        $0.inflightCountMax = 2
        $0.applyingBytesMax = 60
      }
    }
    cut = Array(repeating: false, count: 64)
    cluster.isCut = { [unowned self] in cut[Int($0.rawValue * 8 + $1.rawValue)] }
    cluster.onApply = { [unowned self] node, entry in
      watch.applied(entry, on: node, in: cluster, isFixed: !changesMembers)
    }
    cluster.onOutput = { [unowned self] node in
      watch.look(at: node)
      for read in node.output.reads {
        readsAnswered += 1
        if Int(read.index.rawValue) < readFloors[read.context]! { watch.fail("a stale read") }
      }
    }
  }

  func anyNode() -> Node { cluster.nodes[random.next(below: cluster.nodes.count)] }

  /// Calm and storm change about every hundred steps: without calm nothing is ever committed.
  var isStormy = false

  func step() {
    let node = anyNode()
    if random.chance(1, in: 100) {
      isStormy = random.chance(1, in: 2)
      changeNetwork(isHealed: !isStormy || random.chance(1, in: 2))
    }
    switch random.next(below: 100) {
    case 0..<8: node.core.tick()
    case 8..<32: cluster.pump(node)
    case 32..<42: cluster.finishWrites(node, 1 + random.next(below: 3))
    case 42..<50: cluster.apply(node, 1 + random.next(below: 4))
    case 50..<86: deliverOne()
    case 86..<92: try? node.propose("\(random.next(below: 100))")
    case 92..<95: read(on: node)
    case 95: changeMembers(node)
    case 96: compact(node)
    default: if isStormy { disturb(node) }
    }
    watch.look(at: node)
  }

  func deliverOne() {
    guard !cluster.network.isEmpty else { return }
    // In a storm some come from anywhere in the queue, twice or not at all.
    guard isStormy else {
      cluster.deliver(cluster.network.removeFirst())
      return
    }
    let position = random.chance(1, in: 4) ? random.next(below: cluster.network.count) : 0
    let message = cluster.network[position]
    if !random.chance(1, in: 20) { cluster.network.remove(at: position) }
    if random.chance(1, in: 10) { cluster.lose(message) } else { cluster.deliver(message) }
  }

  func read(on node: Node) {
    context += 1
    readFloors[context] = watch.history.count
    _ = node.read(context)
  }

  func disturb(_ node: Node) {
    switch random.next(below: 6) {
    case 0, 1:
      node.restart(keeping: random.next(below: node.writes.count + 1), seed: random.next())
      // What was not durable is forgotten; the rest may not go back.
      watch.terms[node.id] = node.hardState.term
      watch.commits[node.id] = max(node.hardState.commit, node.applied)
    case 2, 3: node.core.campaign()
    case 4: node.core.transferLeadership(to: anyNode().id)
    default: node.core.reportUnreachable(anyNode().id)
    }
  }

  func changeMembers(_ node: Node) {
    guard changesMembers else { return }
    let actions: [ConfChange.Action] = [.addVoter, .addVoter, .remove, .addLearner]
    let changes = (0...random.next(below: 3)).map { _ in
      ConfChange.Single(actions[random.next(below: 4)], anyNode().id)
    }
    let change = ConfChange(
      id: 0, transition: random.chance(1, in: 3) ? .jointImplicit : .auto, changes: changes,
      context: [])
    try? node.core.propose(kind: .confChangeV2, data: change.encoded(as: .confChangeV2))
  }

  func compact(_ node: Node) {
    guard node.applied > LogIndex(2) else { return }
    let index = LogIndex(node.applied.rawValue - UInt64(random.next(below: 3)))
    guard index >= node.core.firstIndex else { return }
    let term = node.core.term(at: index)!
    let snapshot = SnapshotMetadata(confState: node.confState, index: index, term: term)
    node.snapshot = snapshot
    node.log.removeAll { $0.index <= index }
    if node.hardState.commit < index { node.hardState.commit = index }
    node.core.compact(upTo: index)
  }

  func changeNetwork(isHealed: Bool) {
    let isOneWay = random.chance(1, in: 4)
    for position in cut.indices { cut[position] = !isHealed && random.chance(1, in: 3) }
    guard !isOneWay else { return }
    for a in 0..<8 { for b in 0..<a { cut[a * 8 + b] = cut[b * 8 + a] } }
  }

  /// Ticks for which a leader has led without being a voter.
  private var farewells: [UInt64: Int] = [:]

  /// Ends leaders that have been no voters for a while, as a server does; the others hear no more
  /// of them then.
  private func stopRemovedLeaders() {
    for node in cluster.nodes {
      guard node.core.role == .leader, !node.core.confState.isVoter(node.id) else { continue }
      farewells[node.id.rawValue, default: 0] += 1
      guard farewells[node.id.rawValue]! > 40 else { continue }
      if !node.core.confState.contains(node.id) {
        for other in 0..<8 {
          cut[Int(node.id.rawValue) * 8 + other] = true
          cut[other * 8 + Int(node.id.rawValue)] = true
        }
      }
      node.restart(keeping: node.writes.count, seed: random.next())
      watch.terms[node.id] = node.hardState.term
      watch.commits[node.id] = max(node.hardState.commit, node.applied)
    }
  }

  /// After the faults: everybody reachable, until a new entry is applied by all who take part.
  func heal() -> Bool {
    for position in cut.indices { cut[position] = false }
    for _ in 0..<400 {
      cluster.tick()
      for node in cluster.nodes { watch.look(at: node) }
      stopRemovedLeaders()
      guard let leader = cluster.leader, leader.core.confState.isVoter(leader.id) else { continue }
      try? leader.propose("end")
      cluster.settle()
      let members = cluster.nodes.filter { leader.core.confState.contains($0.id) }
      let isDone = members.allSatisfy { $0.history == leader.history }
      if isDone, leader.history.last?.data == bytes("end") { return true }
    }
    return false
  }
}

@Suite struct `A cluster under faults` {
  @Test(arguments: 0..<8)
  func `keeps its promises and recovers`(group: Int) {
    for seed in 0..<15 { run(seed: UInt64(group * 1000 + seed), changesMembers: false) }
  }

  @Test(arguments: 0..<8)
  func `keeps its promises while its members change`(group: Int) {
    for seed in 0..<12 { run(seed: UInt64(group * 1000 + seed), changesMembers: true) }
  }

  private func run(seed: UInt64, changesMembers: Bool) {
    let run = Run(seed: seed, changesMembers: changesMembers)
    for count in 1...3000 {
      run.step()
      if count % 100 == 0 { run.watch.compareLogs(run.cluster.nodes) }
    }
    let isHealed = run.heal()
    run.watch.compareLogs(run.cluster.nodes)
    #expect(run.watch.failure == nil, "seed \(seed)")
    #expect(isHealed, "seed \(seed) does not recover")
  }
}
