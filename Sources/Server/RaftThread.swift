internal import Basics
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// Owns the consensus core: takes batches of proposals and of messages, gives out writes,
/// messages and committed entries.
struct RaftThread: ~Copyable {
  struct Settings: Sendable {
    var tickNanoseconds: UInt64
    var electionTicks: Int
    /// Contexts of read requests begin behind it; none is ever used twice.
    var firstContext: UInt64
    /// Whether a member that has just started and is connected may stand for election early.
    var advancesFirstElection: Bool
    /// How long a client waits for its proposal.
    var requestNanoseconds: UInt64
  }

  enum Limits {
    /// Proposals that wait for a leader; further ones are refused.
    static let heldProposals = 16_384
    static let heldBytes = 64 << 20
    /// For so long after a snapshot was delivered the log behind it is kept.
    static let catchUpNanoseconds: UInt64 = 30_000_000_000
    /// Of the log that is kept for them.
    static let catchUpBytes = 1 << 30
    /// After this long without a leader a start is no longer one.
    static let startNanoseconds: UInt64 = 5_000_000_000
  }

  var core: Core
  let shared: Shared
  let settings: Settings
  private var output = Output()
  private var inbox: [RaftInput] = []
  /// The newest read request of each io loop that the core has: older ones are not waited for.
  private var reads: [(context: UInt64, ticket: UInt64)]
  private var nextContext: UInt64
  /// What may be sent once a write is durable, oldest first.
  var held: [(mark: WriteMark, messages: [Message])] = []
  /// Snapshots to be applied once the log has them.
  var restoring: [(mark: WriteMark, snapshot: Snapshot)] = []
  var waiting = HeldProposals()
  /// Members that messages get to, as of this wake.
  private(set) var reachable: [NodeID] = []
  /// Members that snapshots are on their way to, and until when they may want what follows.
  private var snapshotsOut: [NodeID: UInt64] = [:]
  /// How far the log is to be forgotten, once no snapshot is on its way.
  private var compaction: LogIndex?
  var questions: [(index: LogIndex, queries: [Query])] = []
  var heartbeats = HeartbeatTimes()
  private var nextTick: UInt64 = 0
  private var startedAt: UInt64 = 0
  private var mayAdvance: Bool

  init(core: consuming Core, shared: Shared, settings: Settings) {
    self.core = core
    self.shared = shared
    self.settings = settings
    nextContext = settings.firstContext
    reads = Array(repeating: (0, 0), count: shared.loops.count)
    mayAdvance = settings.advancesFirstElection
  }

  consuming func run() {
    startedAt = Clock.monotonic()
    nextTick = startedAt + settings.tickNanoseconds
    campaignIfAlone()
    while true {
      while core.hasOutput { honour() }
      shared.raft.wait(until: nextTick, into: &inbox)
      reachable = shared.board.withLock { $0.reachable }
      for input in inbox { take(input) }
      inbox.removeAll(keepingCapacity: true)
      let now = Clock.monotonic()
      retry(now)
      answerQuestions()
      if now >= nextTick {
        core.tick()
        compact(evenIfLong: false)
        nextTick = now + settings.tickNanoseconds
        advanceFirstElection(now)
        publishProgress()
      }
    }
  }

  private mutating func take(_ input: RaftInput) {
    switch input {
    case .proposals(let proposals): for proposal in proposals { propose(proposal) }
    case .questions(let queries): hold(queries)
    case .readIndex(let loop, let ticket):
      nextContext += 1
      if core.readIndex(context: nextContext) { reads[loop] = (nextContext, ticket) }
    case .written(let mark):
      restore(upTo: mark)
      core.appended(mark)
      release(upTo: mark)
    case .applied(let index):
      core.applied(upTo: index)
      campaignIfAlone()
    case .configurations(let applied):
      for change in applied { configure(change) }
    case .transfer(let target): core.transferLeadership(to: target)
    case .compact(let index):
      compaction = max(compaction ?? index, index)
      compact(evenIfLong: true)
    case .messages(let messages):
      for message in messages {
        refuseLoss(message)
        core.step(message)
      }
    case .unreachable(let members): for member in members { core.reportUnreachable(member) }
    case .snapshot(let snapshot, let member):
      if let message = core.snapshotMessage(snapshot, to: member) {
        snapshotsOut[member] = .max
        shared.peers.box.post(.messages([message]))
      } else {
        shared.peers.box.post(.snapshotUnwanted(member))
      }
    case .snapshotSent(let member, let isDelivered):
      core.reportSnapshot(member, isDelivered: isDelivered)
      snapshotsOut[member] =
        isDelivered ? Clock.monotonic() + Limits.catchUpNanoseconds : nil
    }
  }

  /// Ends the process of a member that the leader saw hold what it does not hold any more: it may
  /// have voted or acknowledged on the strength of it. etcd: `commitTo`.
  private func refuseLoss(_ message: Message) {
    guard case .heartbeat(let commit, _) = message.body, message.term >= core.term,
      commit > core.lastIndex
    else { return }
    shared.log.fatal(
      "the log has lost entries that this member had acknowledged: an older copy of the data "
        + "directory was put back, or the disk lost what it had synced. Remove the member, empty "
        + "its directory and add it again",
      ("committed-index", "\(commit.rawValue)"), ("last-index", "\(core.lastIndex.rawValue)"))
  }

  /// Forgets the log as far as is wanted. What follows a snapshot on its way is kept, else its
  /// receiver would need another one when it has it; but not without limit. etcd: `snapshot`,
  /// `releaseDelayAfterSnapshot`.
  private mutating func compact(evenIfLong: Bool) {
    guard let index = compaction else { return }
    let now = Clock.monotonic()
    snapshotsOut = snapshotsOut.filter { $0.value > now }
    guard
      snapshotsOut.isEmpty || evenIfLong && core.bytes(upTo: index) > Limits.catchUpBytes
    else { return }
    compaction = nil
    shared.background.post(.freed(bytes: core.compact(upTo: index)))
  }

  private mutating func configure(_ applied: ConfigurationApplied) {
    guard let change = applied.change else { return }
    do throws(ConfChangeError) {
      _ = try core.applyConfChange(change, at: applied.index)
    } catch {
      shared.log.error("a membership change could not be applied", ("error", "\(error)"))
    }
  }

  /// A single voter need not wait for its election timeout, once it has applied what says that
  /// it is one.
  private mutating func campaignIfAlone() {
    guard core.role == .follower, core.leader == .none,
      core.confState.voters == [core.config.id], !core.confState.isJoint
    else { return }
    core.campaign()
  }

  /// A member that has just started, reaches another and hears of no leader need not wait for
  /// all of its election timeout. etcd: `adjustTicks`.
  private mutating func advanceFirstElection(_ now: UInt64) {
    guard mayAdvance else { return }
    guard now - startedAt < Limits.startNanoseconds, core.leader == .none else {
      mayAdvance = false
      return
    }
    guard shared.board.withLock({ !$0.status.activeSince.isEmpty }) else { return }
    mayAdvance = false
    for _ in 0..<max(0, settings.electionTicks - 2) { core.tick() }
  }

  private mutating func honour() {
    core.takeOutput(into: &output)
    send(output)
    if let mark = output.mark {
      shared.wal.post(
        .append(
          snapshot: output.snapshot, entries: output.entries, hardState: output.hardState,
          mustSync: output.mustSync, mark: mark))
    }
    if let standing = output.standing { changed(standing) }
    if !output.committed.isEmpty {
      let commit = core.commit
      shared.board.withLock { $0.status.commitIndex = commit }
      shared.apply.post(.committed(output.committed))
    }
    for (context, index) in output.reads {
      guard let loop = reads.firstIndex(where: { $0.context == context }) else { continue }
      shared.loops[loop].box.post(.readIndex(ticket: reads[loop].ticket, index: index))
    }
  }

  private func tell(_ standing: Standing, _ before: NodeID) {
    let own = ("local-member-id", Hex.text(core.config.id.rawValue))
    let term = ("term", String(standing.term.rawValue))
    if standing.leader == .none {
      shared.log.warn(
        "raft: lost leader", own, ("leader", Hex.text(before.rawValue)), term)
    } else {
      shared.log.info(
        "raft: elected leader", own, ("leader", Hex.text(standing.leader.rawValue)), term)
    }
  }

  private mutating func changed(_ standing: Standing) {
    for loop in reads.indices { reads[loop] = (0, 0) }
    let before = shared.board.withLock { board in
      let before = board.status.leader
      board.role = standing.role
      board.status.term = standing.term
      board.status.leader = standing.leader
      if standing.role != .leader { board.status.progress = [] }
      if standing.leader != .none, standing.leader != before { board.leaderChanges += 1 }
      return before
    }
    if before != standing.leader { tell(standing, before) }
    shared.apply.post(.standing(standing))
    for loop in shared.loops { loop.box.post(.wake) }
    shared.peers.box.post(.wake)
  }
}
