internal import Services
internal import Basics
internal import Platform
internal import Raft
internal import Replica

/// Owns the consensus core: takes batches of proposals, gives out writes and committed entries.
struct RaftThread: ~Copyable {
  private var core: Core
  private let shared: Shared
  private let tickNanoseconds: UInt64
  private var output = Output()
  private var inbox: [RaftInput] = []
  /// Read requests that the core has, by context; contexts are never used twice.
  private var reads: [UInt64: (loop: Int, ticket: UInt64)] = [:]
  private var nextContext: UInt64
  private var nextTick: UInt64 = 0

  init(core: consuming Core, shared: Shared, tickNanoseconds: UInt64, firstContext: UInt64) {
    self.core = core
    self.shared = shared
    self.tickNanoseconds = tickNanoseconds
    nextContext = firstContext
  }

  consuming func run() {
    nextTick = Clock.monotonic() + tickNanoseconds
    campaignIfAlone()
    while true {
      while core.hasOutput { honour() }
      shared.raft.wait(until: nextTick, into: &inbox)
      for input in inbox { take(input) }
      let now = Clock.monotonic()
      if now >= nextTick {
        core.tick()
        nextTick = now + tickNanoseconds
      }
    }
  }

  private mutating func take(_ input: RaftInput) {
    switch input {
    case .proposals(let proposals): for proposal in proposals { propose(proposal) }
    case .readIndex(let loop, let ticket):
      nextContext += 1
      if core.readIndex(context: nextContext) { reads[nextContext] = (loop, ticket) }
    case .written(let mark): core.appended(mark)
    case .applied(let index): core.applied(upTo: index)
    case .configurations(let applied):
      for change in applied { configure(change) }
      campaignIfAlone()
    case .transfer(let target): core.transferLeadership(to: target)
    case .compact(let index): core.compact(upTo: index)
    }
  }

  /// A proposal that is not taken gets no answer here; its call runs into its time limit, as
  /// etcd's does.
  private mutating func propose(_ proposal: Proposal) {
    do throws(ProposeError) {
      try core.propose(kind: proposal.kind, data: proposal.data, leading: proposal.leading)
    } catch {
      shared.metrics.proposalsFailed.add(1)
    }
  }

  private mutating func configure(_ applied: ConfigurationApplied) {
    guard let change = applied.change else { return }
    do throws(ConfChangeError) {
      _ = try core.applyConfChange(change)
    } catch {
      shared.log.error("a membership change could not be applied", ("error", "\(error)"))
    }
  }

  /// A single voter need not wait for its election timeout.
  private mutating func campaignIfAlone() {
    guard core.role == .follower, core.leader == .none,
      core.confState.voters == [core.config.id], !core.confState.isJoint
    else { return }
    core.campaign()
  }

  private mutating func honour() {
    core.takeOutput(into: &output)
    if let mark = output.mark {
      shared.wal.post(
        .append(
          entries: output.entries, hardState: output.hardState, mustSync: output.mustSync,
          mark: mark))
    }
    if let standing = output.standing { changed(standing) }
    if !output.committed.isEmpty {
      shared.apply.post(.committed(output.committed, commit: core.commit))
    }
    for (context, index) in output.reads {
      guard let (loop, ticket) = reads.removeValue(forKey: context) else { continue }
      shared.loops[loop].box.post(.readIndex(ticket: ticket, index: index))
    }
  }

  private mutating func changed(_ standing: Standing) {
    reads.removeAll()
    let before = shared.board.withLock { board in
      let before = board.status.leader
      board.role = standing.role
      board.status.term = standing.term
      board.status.leader = standing.leader
      if standing.leader != .none, standing.leader != before { board.leaderChanges += 1 }
      return before
    }
    if before != standing.leader {
      shared.log.info(
        "raft: the leader changed", ("leader", String(standing.leader.rawValue, radix: 16)),
        ("term", String(standing.term.rawValue)))
    }
    shared.apply.post(.standing(standing))
    for loop in shared.loops { loop.box.post(.wake) }
  }
}
