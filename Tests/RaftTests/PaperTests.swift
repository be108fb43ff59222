import Basics
import Raft
import Testing

private func entry(_ index: UInt64, _ term: UInt64) -> Entry {
  Entry(term: Term(term), index: LogIndex(index), kind: .normal, data: [])
}

/// A node of three with the given log, and what it answers.
private final class Subject {
  let node: Node

  init(terms: [UInt64] = [], term: UInt64 = 0, vote: UInt64 = 0, commit: UInt64 = 0) {
    let log = terms.enumerated().map { entry(UInt64($0.offset + 1), $0.element) }
    var config = Config(id: NodeID(1), electionTicks: 10, heartbeatTicks: 1)
    config.preVote = false
    config.checkQuorum = false
    node = Node(config: config, confState: ConfState(voters: [1, 2, 3].map(NodeID.init)), seed: 1)
    node.log = log
    node.hardState = HardState(
      term: Term(term), vote: NodeID(vote), commit: LogIndex(commit))
    node.restart(keeping: 0, seed: 1)
  }

  var role: Role { node.core.role }
  var term: UInt64 { node.core.term.rawValue }

  /// Everything the node says, once everything is durable.
  func answers() -> [Message] {
    var all: [Message] = []
    while node.core.hasOutput {
      node.core.takeOutput(into: &node.output)
      all += node.output.messages + node.output.then
      if let mark = node.output.mark { node.core.appended(mark) }
    }
    return all
  }

  func receive(_ body: Message.Body, from: UInt64 = 2, term: UInt64) -> [Message] {
    node.core.step(Message(from: NodeID(from), to: NodeID(1), term: Term(term), body: body))
    return answers()
  }

  func vote(from: UInt64 = 2, term: UInt64, last: (UInt64, UInt64)) -> Bool {
    let ballot = Message.Ballot(
      lastIndex: LogIndex(last.0), lastTerm: Term(last.1), isTransfer: false)
    return receive(.vote(ballot), from: from, term: term).contains {
      $0.body == .voteResponse(isRejected: false)
    }
  }

  func append(
    term: UInt64, previous: (UInt64, UInt64), entries: [Entry], commit: UInt64 = 0
  ) -> Message.AppendResponse? {
    let append = Message.Append(
      previousIndex: LogIndex(previous.0), previousTerm: Term(previous.1),
      commit: LogIndex(commit), entries: entries)
    for message in receive(.append(append), term: term) {
      if case .appendResponse(let response) = message.body { return response }
    }
    return nil
  }

  func lead() {
    node.core.campaign()
    _ = answers()
    _ = receive(.voteResponse(isRejected: false), term: term)
  }

  var terms: [UInt64] {
    (node.core.firstIndex.rawValue...max(node.core.lastIndex.rawValue, 1)).compactMap {
      node.core.term(at: LogIndex($0))?.rawValue
    }
  }
}

@Suite struct `The thesis says` {
  @Test func `3.3: a server that sees a larger term takes it over and follows`() {
    let subject = Subject(term: 1)
    subject.lead()
    #expect(subject.role == .leader && subject.term == 2)
    _ = subject.receive(.heartbeat(commit: .zero, context: []), term: 5)
    #expect(subject.role == .follower && subject.term == 5)
  }

  @Test func `3.3: a request with a stale term is refused`() {
    let subject = Subject(term: 4)
    #expect(!subject.vote(term: 3, last: (9, 3)))
    #expect(subject.append(term: 3, previous: (0, 0), entries: [entry(1, 3)]) == nil)
    #expect(subject.node.core.lastIndex == .zero)
  }

  @Test func `3.4: servers begin as followers and stay so while they hear of a leader`() {
    let subject = Subject(term: 1)
    #expect(subject.role == .follower)
    for _ in 0..<100 {
      subject.node.core.tick()
      _ = subject.receive(.heartbeat(commit: .zero, context: []), term: 1)
    }
    #expect(subject.role == .follower && subject.term == 1)
  }

  @Test func `3.4: a candidate counts its term up, votes for itself and asks all others`() {
    let subject = Subject(term: 1)
    subject.node.core.campaign()
    let asked = subject.answers()
    #expect(subject.term == 2 && subject.node.core.vote == NodeID(1))
    #expect(asked.map(\.to) == [NodeID(2), NodeID(3)])
  }

  @Test func `3.4: each server votes for at most one candidate in a term, first come`() {
    let subject = Subject(term: 1)
    #expect(subject.vote(from: 2, term: 2, last: (0, 0)))
    #expect(!subject.vote(from: 3, term: 2, last: (0, 0)))
    #expect(subject.vote(from: 2, term: 2, last: (0, 0)))
  }

  @Test func `3.8: a vote outlives a restart`() {
    let subject = Subject(term: 2, vote: 2)
    #expect(!subject.vote(from: 3, term: 2, last: (5, 1)))
    #expect(subject.vote(from: 2, term: 2, last: (5, 1)))
  }

  @Test func `3.4: a candidate follows a leader of its own term`() {
    let subject = Subject(term: 1)
    subject.node.core.campaign()
    _ = subject.answers()
    _ = subject.append(term: 2, previous: (0, 0), entries: [])
    #expect(subject.role == .follower && subject.node.core.leader == NodeID(2))
  }

  @Test func `3.4: election timeouts are drawn from an interval, anew each time`() {
    var seen: [Int: Int] = [:]
    for seed in UInt64(0)..<200 {
      let cluster = Cluster(voters: [1, 2, 3], seed: seed) { $0.preVote = false }
      var ticks = 0
      while cluster[1].core.role == .follower {
        cluster[1].core.tick()
        ticks += 1
      }
      seen[ticks, default: 0] += 1
    }
    #expect(seen.keys.min() == 10 && seen.keys.max() == 19 && seen.count == 10)
  }

  @Test func `3.5: a follower refuses entries when it lacks the one before`() {
    let subject = Subject(terms: [1, 2], term: 2)
    let refused = subject.append(term: 3, previous: (2, 3), entries: [entry(3, 3)])
    #expect(refused?.rejection != nil && subject.terms == [1, 2])
    let accepted = subject.append(term: 3, previous: (2, 2), entries: [entry(3, 3)])
    #expect(accepted == .init(index: LogIndex(3), rejection: nil))
  }

  @Test(
    arguments: [
      ([1, 2], (2, 2), [3], [1, 2, 3]), ([1, 2], (1, 1), [3, 4], [1, 3, 4]),
      ([1, 2], (0, 0), [1], [1, 2]), ([1, 2], (0, 0), [3], [3]),
    ] as [([UInt64], (UInt64, UInt64), [UInt64], [UInt64])])
  func `3.5: what conflicts goes, what is new comes, what agrees stays`(
    log: [UInt64], previous: (UInt64, UInt64), sent: [UInt64], expected: [UInt64]
  ) {
    let subject = Subject(terms: log, term: 2)
    let entries = sent.enumerated().map { entry(previous.0 + 1 + UInt64($0.offset), $0.element) }
    _ = subject.append(term: 4, previous: previous, entries: entries)
    #expect(subject.terms == expected)
  }

  @Test func `3.5: a follower commits no further than what the leader's append covers`() {
    let subject = Subject(terms: [1, 1, 1], term: 1)
    _ = subject.append(term: 2, previous: (1, 1), entries: [], commit: 3)
    #expect(subject.node.core.commit == LogIndex(1))
  }

  @Test(
    arguments: [
      ([1, 2], (2, 2), true), ([1, 2], (3, 2), true), ([1, 2], (1, 3), true),
      ([1, 2], (1, 2), false), ([1, 2], (9, 1), false),
    ] as [([UInt64], (UInt64, UInt64), Bool)])
  func `3.6.1: a voter refuses a candidate whose log is behind its own`(
    log: [UInt64], last: (UInt64, UInt64), isGranted: Bool
  ) {
    #expect(Subject(terms: log, term: 2).vote(term: 5, last: last) == isGranted)
  }

  @Test func `3.6.2: entries of earlier terms are committed only with one of this term`() {
    let subject = Subject(terms: [1, 2], term: 2)
    subject.lead()
    #expect(subject.terms == [1, 2, 3])
    let behind = Message.AppendResponse(index: LogIndex(2), rejection: nil)
    _ = subject.receive(.appendResponse(behind), term: 3)
    #expect(subject.node.core.commit == .zero)
    let current = Message.AppendResponse(index: LogIndex(3), rejection: nil)
    _ = subject.receive(.appendResponse(current), term: 3)
    #expect(subject.node.core.commit == LogIndex(3))
  }

  @Test func `3.5: a leader never overwrites its own log`() {
    let subject = Subject(terms: [1, 2], term: 2)
    subject.lead()
    try? subject.node.propose("x")
    #expect(subject.terms == [1, 2, 3, 3])
  }

  @Test func `6.4: a leader knows the commit index only after it committed in its term`() {
    let subject = Subject(terms: [1], term: 1, commit: 1)
    subject.lead()
    #expect(subject.node.read(1))
    #expect(!subject.answers().contains { $0.body == .heartbeat(commit: .zero, context: []) })
    #expect(subject.node.output.reads.isEmpty)
  }

  @Test func `4.2.3: a server that hears of a leader ignores who asks for votes`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.elect(1)
    let ballot = Message.Ballot(lastIndex: LogIndex(9), lastTerm: Term(8), isTransfer: false)
    cluster.deliver(
      Message(from: NodeID(3), to: NodeID(2), term: Term(9), body: .vote(ballot)))
    #expect(cluster[2].core.term == Term(1))
    let forced = Message.Ballot(lastIndex: LogIndex(9), lastTerm: Term(8), isTransfer: true)
    cluster.deliver(
      Message(from: NodeID(3), to: NodeID(2), term: Term(9), body: .vote(forced)))
    #expect(cluster[2].core.term == Term(9))
  }

  @Test func `9.6: a pre-vote changes neither term nor vote of anyone`() {
    let cluster = Cluster(voters: [1, 2, 3])
    cluster.isCut = { _, to in to == NodeID(1) }
    cluster[1].core.campaign()
    cluster.settle()
    #expect(cluster[1].core.role == .preCandidate)
    #expect(cluster.nodes.allSatisfy { $0.core.term == .zero && $0.core.vote == .none })
  }
}

@Suite struct `An invariant` {
  @Test func `that committed entries stay ends the process when broken`() async {
    await #expect(processExitsWith: .failure) {
      let subject = Subject(terms: [1, 1], term: 1, commit: 2)
      _ = subject.append(term: 2, previous: (2, 1), entries: [])
      // The leader claims to have committed what this log never had.
      _ = subject.receive(.heartbeat(commit: LogIndex(9), context: []), term: 2)
    }
  }

  @Test func `that a term has one leader ends the process when broken`() async {
    await #expect(processExitsWith: .failure) {
      let subject = Subject(term: 1)
      _ = subject.receive(.heartbeat(commit: .zero, context: []), from: 2, term: 2)
      _ = subject.receive(.heartbeat(commit: .zero, context: []), from: 3, term: 2)
    }
  }

  @Test func `that a log has no gap ends the process when broken`() async {
    await #expect(processExitsWith: .failure) {
      _ = Core(
        config: Config(id: NodeID(1), electionTicks: 10, heartbeatTicks: 1), hardState: .empty,
        confState: ConfState(voters: [NodeID(1)]), snapshot: nil, entries: [entry(2, 1)],
        applied: .zero, seed: 1)
    }
  }
}
