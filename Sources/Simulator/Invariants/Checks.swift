internal import API
internal import Basics
internal import MVCC
internal import Raft
internal import Replica

/// Holds what happens against every invariant, each in its own file.
final class Checks {
  unowned var world: Simulation!
  let options: Options
  var elections = ElectionSafety()
  var committed = CommittedEntries()
  var configurations = ConfigurationAgreement()
  var monotonic = Monotonic()
  var ledger = Ledger()
  var linearizability = Linearizability()
  var leases = LeaseTiming()
  var hashes = HashEquality()
  var locks = LockExclusion()
  /// How many events the process had before the entry at hand.
  private var eventsBefore = 0
  private var lastConfigured = LogIndex.zero
  /// When a member last began to lead.
  private var lastElection: UInt64 = 0

  init(_ options: Options) { self.options = options }

  func expect(_ name: String, _ problem: String?) {
    if let problem { world.violate(name, problem) }
  }

  /// What rests on a leader's giving up when it hears of no quorum.
  func expectOfLeases(_ name: String, _ problem: String?) {
    if options.checkQuorum { expect(name, problem) }
  }

  /// Once no member has failed for a while. A new leader gives every lease its whole time again.
  func overdueLeases() {
    let second: UInt64 = 1_000_000_000
    let slack = options.tick * UInt64(options.electionTicks) + 2 * second
    expectOfLeases(
      "lease ends", leases.overdue(world.now, since: lastElection, slack: slack))
  }

  // MARK: Raft

  /// Every message on its way out.
  func sent(_ message: Message, by host: Host) {
    expect("durable before said", Durability.problem(message, host))
    Durability.note(message, host)
    if case .voteResponse(isRejected: false) = message.body {
      expect(
        "election safety",
        elections.voted(message.from, for: message.to, term: message.term))
    }
  }

  func output(_ output: Output, of process: Process) {
    expect("acknowledged is kept", Durability.problem(acknowledged: process))
    guard let state = output.hardState else { return }
    if output.standing == nil, let before = monotonic.commit(of: process.host.number) {
      expect("commit rule", CommitRule.problem(process.core, before: before))
    }
    expect("monotonic", monotonic.state(state, of: process.host.number))
  }

  func standing(_ standing: Standing, of process: Process) {
    guard standing.role == .leader else { return }
    lastElection = world.now
    expect("election safety", elections.leads(process.host.id, term: standing.term))
    expect("leader completeness", committed.problem(leader: process.core))
  }

  func started(_ process: Process) {
    monotonic.restarted(process.host.number)
    expect("acknowledged is kept", Durability.problem(acknowledged: process))
    expectConfiguration(of: process, isFirst: false)
    expect(
      "committed immutable",
      committed.problem(state: process.replica.store.consistentIndex, process: process))
  }

  func willApply(_ entry: Entry, on process: Process) {
    if entry.index > committed.last {
      let voters = process.replica.configuration
      expect(
        "acknowledged means durable",
        Durability.problem(commit: entry, voters, world.hosts, &committed.configurations))
      leases.committed(entry, now: world.now, process.host.id, checks: self)
    }
    expect(
      "state machine safety",
      committed.applied(entry, term: process.core.term, by: process.host.number))
    eventsBefore = process.outcome.events.events.count
  }

  func didApply(_ entry: Entry, on process: Process) {
    expectConfiguration(of: process, isFirst: entry.index > lastConfigured)
    lastConfigured = max(lastConfigured, entry.index)
    expect("state machine safety", committed.reached(process.replica, at: entry.index))
    let batch = process.outcome.events
    for event in batch.events[eventsBefore...] {
      expect("revision order", ledger.take(event, batch, self))
    }
    expect("revision order", ledger.reached(process.replica.store.currentRevision))
    if let applied = process.outcome.configurations.last, applied.index == entry.index,
      let change = applied.member
    {
      world.memberChanged(change, at: entry.index)
    }
  }

  func installed(_ metadata: SnapshotMetadata, on process: Process) {
    expect("state machine safety", committed.reached(process.replica, at: metadata.index))
    expectConfiguration(of: process, isFirst: false)
  }

  private func expectConfiguration(of process: Process, isFirst: Bool) {
    guard process.replica.appliedIndex > .zero else { return }
    let problem = configurations.has(
      process.replica.configuration, at: process.replica.appliedIndex, isFirst: isFirst)
    expect("configuration agreement", problem.map { "\(process.host.number): \($0)" })
  }

  /// Now and then: what looks at several members at once.
  func periodic() {
    let hosts = world.hosts
    for (place, host) in hosts.enumerated() {
      guard let one = host.process else { continue }
      for other in hosts[(place + 1)...] {
        guard let two = other.process else { continue }
        expect("log matching", LogMatching.problem(one.core, two.core))
      }
    }
  }
}
