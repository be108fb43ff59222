internal import Basics
internal import Platform
internal import Raft
internal import Replica
internal import Services

extension RaftThread {
  /// A learner that lacks no more than one of so many of the leader's entries may be promoted.
  /// etcd: `readyPercent`.
  private static var entriesToOneLacking: UInt64 { 10 }

  /// Sends what may go out beside the write, before the write is handed on, and keeps the rest
  /// until it is durable.
  mutating func send(_ output: borrowing Output) {
    if !output.messages.isEmpty {
      checkHeartbeats(output.messages)
      shared.peers.box.post(.messages(joined(output.messages)))
    }
    if let mark = output.mark, !output.then.isEmpty { held.append((mark, output.then)) }
    if let mark = output.mark, let snapshot = output.snapshot {
      restoring.append((mark, snapshot))
    }
    for member in output.snapshotsWanted { shared.apply.post(.snapshotWanted(member)) }
  }

  /// How many bytes of proposals go in one message.
  private static var proposalBytes: Int { 1 << 20 }

  /// The messages, with proposals for the leader that follow each other in one.
  private func joined(_ messages: [Message]) -> [Message] {
    guard messages.count > 1, core.role != .leader else { return messages }
    var result: [Message] = []
    var gathered: [Entry] = []
    var bytes = 0
    var leader = NodeID.none
    func close() {
      guard !gathered.isEmpty else { return }
      result.append(
        Message(from: core.config.id, to: leader, term: .zero, body: .propose(gathered)))
      gathered = []
      bytes = 0
    }
    for message in messages {
      guard case .propose(let entries) = message.body, message.from == core.config.id else {
        close()
        result.append(message)
        continue
      }
      if message.to != leader || bytes >= RaftThread.proposalBytes { close() }
      leader = message.to
      gathered += entries
      bytes += entries.reduce(0) { $0 + $1.data.count }
    }
    close()
    return result
  }

  /// A write is durable: what waited for it goes out.
  mutating func release(upTo mark: WriteMark) {
    let count = held.firstIndex { $0.mark > mark } ?? held.count
    guard count > 0 else { return }
    var messages: [Message] = []
    for item in held[..<count] { messages += item.messages }
    held.removeFirst(count)
    shared.peers.box.post(.messages(messages))
  }

  /// A snapshot is in the log: the store may be put in its place.
  mutating func restore(upTo mark: WriteMark) {
    while let first = restoring.first, first.mark <= mark {
      restoring.removeFirst()
      shared.apply.post(.restore(first.snapshot))
    }
  }

  /// Tells how far the others are, which only a leader knows.
  func publishProgress() {
    guard core.role == .leader, core.confState.members.count > 1 else { return }
    let status = core.status
    let last = status.lastIndex.rawValue
    let ready = last - last / RaftThread.entriesToOneLacking
    let progress = status.progress.map { (member: $0.id, isReady: $0.match.rawValue >= ready) }
    shared.board.withLock { $0.status.progress = progress }
  }

  // MARK: Questions

  /// Keeps questions until all is applied that was committed when they came, and, on a leader,
  /// the first entry of its term: no lease that was granted is then unknown.
  mutating func hold(_ queries: [Query]) { questions.append((core.commit, queries)) }

  mutating func answerQuestions() {
    guard !questions.isEmpty else { return }
    if core.role == .leader, core.term(at: core.commit) != core.term { return }
    while let first = questions.first, first.index <= core.applied {
      questions.removeFirst()
      shared.apply.post(.queries(first.queries))
    }
  }

  // MARK: Proposals

  /// Hands a proposal to the core. One that comes while there is no leader waits for one, as
  /// long as its client does; it is not in any log, so that it may still be taken.
  mutating func propose(_ proposal: Proposal) {
    if waiting.isEmpty, attempt(proposal) { return }
    let deadline = Clock.monotonic() + settings.requestNanoseconds
    if !waiting.append(proposal, deadline: deadline) { refuse(proposal, .tooMany) }
  }

  /// Tries again what waits, in order.
  mutating func retry(_ now: UInt64) {
    guard !waiting.isEmpty else { return }
    while let item = waiting.first {
      if item.deadline > now, !attempt(item.proposal) { return }
      waiting.removeFirst()
    }
  }

  /// False: not now. To a leader that messages do not get to nothing is sent: it may be gone, and
  /// what is lost on the way has no answer.
  private mutating func attempt(_ proposal: Proposal) -> Bool {
    // What only the leader of a term may propose is not kept for another.
    if let leading = proposal.leading, core.role != .leader || core.term != leading {
      refuse(proposal, .notPrimary)
      return true
    }
    if core.role == .follower, core.leader != .none, !reachable.contains(core.leader) {
      return false
    }
    do throws(ProposeError) {
      try core.propose(kind: proposal.kind, data: proposal.data, leading: proposal.leading)
      return true
    } catch {
      switch error {
      case .noLeader, .transferring, .confChangeRefused: return false
      case .tooManyUncommitted: refuse(proposal, .tooMany)
      case .notMember, .malformedConfChange: refuse(proposal, .stopped)
      }
      return true
    }
  }

  private func refuse(_ proposal: Proposal, _ failure: Failure) {
    shared.metrics.proposalsFailed.add(1)
    guard let loop = RequestIDs.loop(of: proposal.id, member: core.config.id) else { return }
    var batch = CompletionBatch()
    batch.append(proposal.id, failure: failure)
    if loop < shared.loops.count {
      shared.loops[loop].box.post(.completions(batch))
    } else if loop == shared.peerLoop {
      shared.peers.box.post(.completions(batch))
    }
  }
}

/// Proposals that wait for a leader, in order.
struct HeldProposals {
  private var items: [(proposal: Proposal, deadline: UInt64)] = []
  private var head = 0
  private var bytes = 0

  var isEmpty: Bool { head == items.count }
  var first: (proposal: Proposal, deadline: UInt64)? { isEmpty ? nil : items[head] }

  /// False when there is no room.
  mutating func append(_ proposal: Proposal, deadline: UInt64) -> Bool {
    guard items.count - head < RaftThread.Limits.heldProposals,
      bytes + proposal.data.count <= RaftThread.Limits.heldBytes
    else { return false }
    items.append((proposal, deadline))
    bytes += proposal.data.count
    return true
  }

  mutating func removeFirst() {
    bytes -= items[head].proposal.data.count
    // What it holds goes now, its place when many such are in front.
    items[head].proposal.data = []
    head += 1
    if head == items.count {
      items.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 1024, head * 2 >= items.count {
      items.removeFirst(head)
      head = 0
    }
  }
}
