public import Basics

/// One participant of Raft, as etcd's raft 3.5 understands it, without time, I/O or randomness
/// of its own. One thread owns it. Every change is an event; what follows from the events comes
/// out of `takeOutput`. Raft thesis, chapters 3, 4, 6 and 9.6; docs/divergences.md.
public struct Core: ~Copyable {
  public let config: Config
  var random: Random

  var log: MemoryLog
  public internal(set) var role = Role.follower
  public internal(set) var term: Term
  public internal(set) var vote: NodeID
  public internal(set) var leader = NodeID.none
  public internal(set) var confState: ConfState

  /// What was given out last, to tell what changed.
  var givenHardState: HardState
  var givenStanding: Standing

  var electionElapsed = 0
  var heartbeatElapsed = 0
  var electionTimeout = 0

  /// Applied by the shell, and given out to be applied.
  public internal(set) var applied: LogIndex
  var applying: LogIndex
  var applyingBytes = 0

  /// A snapshot that was received: waiting to be given out, and the write that holds it.
  var newSnapshot: Snapshot?
  var snapshotWrite: UInt64?

  // Candidates.
  var votes: [(node: NodeID, isGranted: Bool)] = []
  /// The own vote counts once it is durable.
  enum OwnVote: Equatable {
    case none
    case unwritten
    case written(sequence: UInt64)
  }
  var ownVote = OwnVote.none

  // Leaders.
  /// Ascending by ID, this node included; empty unless this node leads.
  var progress: [Progress] = []
  var transferTarget = NodeID.none
  /// No membership change may be proposed before this index is applied.
  var pendingConfIndex = LogIndex.zero
  var uncommittedBytes = 0
  var reads = ReadQueue()

  // The next output.
  var messages: [Message] = []
  var durableMessages: [Message] = []
  var snapshotsWanted: [NodeID] = []
  var readyReads: [(context: UInt64, index: LogIndex)] = []

  /// Starts as a follower. `snapshot` is the newest one stored, `entries` follow it without a
  /// gap, `confState` is the membership at `applied` and `hardState` what was last written;
  /// its commit may lie behind `applied`, since it is not synced for itself.
  public init(
    config: Config, hardState: HardState, confState: ConfState, snapshot: SnapshotMetadata?,
    entries: [Entry], applied: LogIndex, seed: UInt64
  ) {
    precondition(config.isValid)
    self.config = config
    random = Random(seed: seed)
    log = MemoryLog(
      compactedIndex: snapshot?.index ?? .zero, compactedTerm: snapshot?.term ?? .zero,
      entries: entries, commit: max(hardState.commit, applied))
    term = max(hardState.term, log.lastTerm)
    vote = term == hardState.term ? hardState.vote : .none
    self.confState = confState
    self.applied = max(applied, log.compactedIndex)
    applying = self.applied
    precondition(applying <= log.commit, "applied more than was committed")
    givenHardState = hardState
    givenStanding = Standing(role: .follower, term: term, leader: .none)
    drawElectionTimeout()
  }

  public var commit: LogIndex { log.commit }
  public var lastIndex: LogIndex { log.lastIndex }
  public var firstIndex: LogIndex { log.firstIndex }
  public var standing: Standing { Standing(role: role, term: term, leader: leader) }

  /// Everything at a glance. Copies the lists.
  public var status: Status {
    Status(
      id: config.id, standing: standing, vote: vote, commit: log.commit, applied: applied,
      firstIndex: log.firstIndex, lastIndex: log.lastIndex, stableIndex: log.stable,
      confState: confState, transferTarget: transferTarget, progress: progress)
  }

  /// The term of the entry at `index`, if the log still knows it.
  public func term(at index: LogIndex) -> Term? { log.term(at: index) }

  // MARK: Events

  /// Proposes an entry: a leader takes it, a follower sends it on. One allocation at most.
  public mutating func propose(kind: EntryKind, data: [UInt8]) throws(ProposeError) {
    switch role {
    case .leader:
      try accept(kind: kind, data: data)
    case .follower where leader != .none:
      let entry = Entry(term: .zero, index: .zero, kind: kind, data: data)
      messages.append(
        Message(from: config.id, to: leader, term: .zero, body: .propose([entry])))
    case .follower, .candidate, .preCandidate:
      throw .noLeader
    }
  }

  /// Proposes what only the leader of a term may decide, if this node leads in it; anyone may
  /// propose when `wanted` is nil.
  public mutating func propose(
    kind: EntryKind, data: [UInt8], leading wanted: Term?
  ) throws(ProposeError) {
    if let wanted, role != .leader || term != wanted { throw .noLeader }
    try propose(kind: kind, data: data)
  }

  /// Lets one tick of time pass.
  public mutating func tick() {
    electionElapsed += 1
    if role == .leader {
      tickLeader()
    } else if isPromotable, electionElapsed >= electionTimeout {
      electionElapsed = 0
      campaign()
    }
  }

  /// Stands for election now. Does nothing on a leader, or on one that may not lead.
  public mutating func campaign() { campaign(isTransfer: false) }

  /// Takes what another member sent. Malformed and stale messages are dropped.
  public mutating func step(_ message: Message) {
    guard message.isWellFormed else { return }
    switch message.body {
    case .propose(let entries):
      stepProposal(message, entries)
      return
    case .readIndex(let context):
      stepReadIndex(message, context)
      return
    default:
      guard message.term > .zero, admit(message) else { return }
    }
    switch message.body {
    case .vote(let ballot): handleVote(message, ballot, isPreVote: false)
    case .preVote(let ballot): handleVote(message, ballot, isPreVote: true)
    default:
      switch role {
      case .follower: stepFollower(message)
      case .preCandidate, .candidate: stepCandidate(message)
      case .leader: stepLeader(message)
      }
    }
  }

  /// Notes that the write and all that were given out before it are durable.
  public mutating func appended(_ mark: WriteMark) {
    log.finishWrite(mark)
    if let sequence = snapshotWrite, sequence <= mark.sequence { snapshotWrite = nil }
    if case .written(let sequence) = ownVote, sequence <= mark.sequence {
      ownVote = .none
      record(vote: config.id, isGranted: true)
    }
    guard role == .leader, let own = position(config.id) else { return }
    if progress[own].update(to: log.stable) { advanceCommit() }
  }

  /// Notes that the state machine has applied everything up to `index`.
  public mutating func applied(upTo index: LogIndex) {
    guard index > applied else { return }
    precondition(index <= applying, "applied what was not given out")
    let previous = applied
    for offset in 1...(index - previous) { applyingBytes -= log.bytes(at: previous + offset) }
    applied = index
    leaveJointIfDue(previous: previous)
  }

  /// How many bytes the entries up to `index` take. Linear in their number.
  public func bytes(upTo index: LogIndex) -> Int { log.bytes(upTo: index) }

  /// Forgets entries up to `index`, which has been applied; how many bytes they were. Cost: moves
  /// the rest of the log.
  @discardableResult
  public mutating func compact(upTo index: LogIndex) -> Int {
    precondition(index <= applied, "compacted what was not applied")
    return log.compact(to: index)
  }

  /// Whether `takeOutput` would give anything.
  public var hasOutput: Bool {
    if !messages.isEmpty || !durableMessages.isEmpty || !readyReads.isEmpty { return true }
    if newSnapshot != nil || !snapshotsWanted.isEmpty || log.handed < log.lastIndex { return true }
    if hardState != givenHardState || standing != givenStanding { return true }
    return reads.hasOpenRound || nextCommitted() != nil || owesAppends
  }

  var hardState: HardState { HardState(term: term, vote: vote, commit: log.commit) }

  /// Moves everything that is to be done into `output`, whose earlier contents go.
  public mutating func takeOutput(into output: inout Output) {
    output.removeAll()
    if role == .leader {
      closeReadRound()
      sendAppends()
    }
    log.hand(into: &output.entries)
    output.snapshot = newSnapshot
    newSnapshot = nil
    let state = hardState
    if state != givenHardState {
      precondition(state.term >= givenHardState.term && state.commit >= givenHardState.commit)
      output.hardState = state
      output.mustSync = state.term != givenHardState.term || state.vote != givenHardState.vote
      givenHardState = state
    }
    if !output.entries.isEmpty || output.snapshot != nil { output.mustSync = true }
    let writes = output.mustSync || output.hardState != nil
    if writes || !durableMessages.isEmpty && !log.isDurable {
      let mark = log.beginWrite()
      output.mark = mark
      if output.snapshot != nil { snapshotWrite = mark.sequence }
      if ownVote == .unwritten { ownVote = .written(sequence: mark.sequence) }
      swap(&output.then, &durableMessages)
    } else {
      messages.append(contentsOf: durableMessages)
      durableMessages.removeAll(keepingCapacity: true)
    }
    swap(&output.messages, &messages)
    swap(&output.snapshotsWanted, &snapshotsWanted)
    giveCommitted(to: &output.committed)
    swap(&output.reads, &readyReads)
    if standing != givenStanding {
      givenStanding = standing
      output.standing = standing
    }
  }

  // MARK: Shared by the roles

  /// The end of what may be given out to be applied: committed and durable here, in the bounds.
  private func nextCommitted() -> LogIndex? {
    let end = min(log.commit, log.stable)
    guard applying < end else { return nil }
    var bytes = applyingBytes
    var last = applying
    while last < end {
      let size = log.bytes(at: last + 1)
      if bytes > 0, bytes + size > config.applyingBytesMax { break }
      bytes += size
      last = last + 1
    }
    return last > applying ? last : nil
  }

  private mutating func giveCommitted(to committed: inout [Entry]) {
    guard let last = nextCommitted() else { return }
    while applying < last {
      applying = applying + 1
      let entry = log.entry(at: applying)
      applyingBytes += entry.bytes
      uncommittedBytes = max(0, uncommittedBytes - entry.data.count)
      committed.append(entry)
    }
  }

  func position(_ id: NodeID) -> Int? { progress.firstIndex { $0.id == id } }

  var isPromotable: Bool {
    confState.isVoter(config.id) && newSnapshot == nil && snapshotWrite == nil
  }

  /// Sends at once.
  mutating func send(_ body: Message.Body, to: NodeID) {
    messages.append(Message(from: config.id, to: to, term: term, body: body))
  }

  /// Sends once everything so far is durable.
  mutating func sendDurably(_ body: Message.Body, to: NodeID, term: Term) {
    durableMessages.append(Message(from: config.id, to: to, term: term, body: body))
  }

  mutating func drawElectionTimeout() {
    electionTimeout = config.electionTicks + random.next(below: config.electionTicks)
  }

  /// What every change of role or term begins with.
  mutating func reset(term new: Term) {
    precondition(new >= term)
    if new != term {
      term = new
      vote = .none
    }
    leader = .none
    electionElapsed = 0
    heartbeatElapsed = 0
    drawElectionTimeout()
    votes.removeAll(keepingCapacity: true)
    ownVote = .none
    progress.removeAll(keepingCapacity: true)
    snapshotsWanted.removeAll(keepingCapacity: true)
    transferTarget = .none
    pendingConfIndex = .zero
    uncommittedBytes = 0
    reads = ReadQueue()
  }
}
