public import Basics

extension Core {
  /// Begins to lead with an empty entry of the new term, whose commit commits all before it.
  /// Thesis §3.6.2, §6.4.
  mutating func becomeLeader() {
    precondition(role == .candidate && vote == config.id)
    reset(term: term)
    role = .leader
    leader = config.id
    pendingConfIndex = log.lastIndex
    alignProgress()
    append(kind: .normal, data: [])
  }

  mutating func append(kind: EntryKind, data: [UInt8]) {
    log.append(Entry(term: term, index: log.lastIndex + 1, kind: kind, data: data))
  }

  /// Takes a proposal into the log. It goes out with the next output.
  mutating func accept(kind: EntryKind, data: [UInt8]) throws(ProposeError) {
    guard confState.contains(config.id) else { throw .notMember }
    guard transferTarget == .none else { throw .transferring }
    guard
      uncommittedBytes == 0 || data.isEmpty
        || data.count <= config.uncommittedBytesMax - uncommittedBytes
    else { throw .tooManyUncommitted }
    if kind != .normal { try check(kind: kind, data: data) }
    uncommittedBytes += data.count
    append(kind: kind, data: data)
    if kind != .normal { pendingConfIndex = log.lastIndex }
  }

  /// Proposals that a follower sent on. What cannot be taken is dropped: the proposer's wait
  /// ends by time. A change of members that is refused takes no others with it.
  mutating func stepProposal(_ message: Message, _ entries: [Entry]) {
    switch role {
    case .leader:
      for entry in entries {
        do throws(ProposeError) {
          try accept(kind: entry.kind, data: entry.data)
        } catch {
          guard error == .confChangeRefused || error == .malformedConfChange else { return }
        }
      }
    case .follower where leader != .none && message.from != leader:
      messages.append(
        Message(from: message.from, to: leader, term: .zero, body: .propose(entries)))
    case .follower, .candidate, .preCandidate:
      break
    }
  }

  mutating func tickLeader() {
    heartbeatElapsed += 1
    if electionElapsed >= config.electionTicks {
      electionElapsed = 0
      if config.checkQuorum, !checkQuorum() { return }
      transferTarget = .none
    }
    if heartbeatElapsed >= config.heartbeatTicks {
      heartbeatElapsed = 0
      broadcastHeartbeat(context: reads.context)
    }
  }

  /// Steps down when no quorum was heard of since the last check; whether it still leads.
  private mutating func checkQuorum() -> Bool {
    let outcome = confState.result { id in
      id == config.id || position(id).map { progress[$0].isRecentlyActive } ?? false
    }
    guard outcome == .won else {
      becomeFollower(term: term, leader: .none)
      return false
    }
    for index in progress.indices { progress[index].isRecentlyActive = false }
    return true
  }

  mutating func broadcastHeartbeat(context: [UInt8]) {
    for peer in progress where peer.id != config.id {
      let isBehind = peer.match < log.commit && !config.sabotage.contains(.heartbeatsPastMatch)
      send(.heartbeat(commit: isBehind ? peer.match : log.commit, context: context), to: peer.id)
    }
  }

  mutating func stepLeader(_ message: Message) {
    guard let peer = position(message.from) else { return }
    switch message.body {
    case .appendResponse(let response):
      handleAppendResponse(response, from: peer)
    case .heartbeatResponse(let context):
      handleHeartbeatResponse(context, from: peer)
    case .transferLeader:
      beginTransfer(to: message.from)
    default:
      break
    }
  }

  private mutating func handleAppendResponse(_ response: Message.AppendResponse, from peer: Int) {
    progress[peer].isRecentlyActive = true
    if let rejection = response.rejection {
      handleRejection(rejection, of: response.index, from: peer)
      return
    }
    guard response.index <= log.lastIndex else { return }
    let wasPaused = progress[peer].isPaused
    let isNews = progress[peer].update(to: response.index)
    switch progress[peer].state {
    case .probe where isNews || progress[peer].match == response.index:
      progress[peer].becomeReplicate()
    case .snapshot where progress[peer].match + 1 >= log.firstIndex:
      progress[peer].becomeReplicate()
    case .replicate:
      progress[peer].inflights.release(upTo: response.index)
    case .probe, .snapshot:
      break
    }
    guard isNews else { return }
    let committed = advanceCommit()
    if wasPaused, !committed { progress[peer].owesAppend = true }
    if progress[peer].id == transferTarget, progress[peer].match == log.lastIndex {
      send(.timeoutNow, to: transferTarget)
    }
  }

  /// Thesis §3.5 and its note on fewer rejections: skip whole terms on both sides.
  private mutating func handleRejection(
    _ rejection: Message.Rejection, of rejected: LogIndex, from peer: Int
  ) {
    var hint = rejection.hintIndex
    if rejection.hintTerm > .zero {
      hint = log.newest(atOrBelow: hint, notAbove: rejection.hintTerm)
    }
    guard progress[peer].decrease(rejected: rejected, hint: hint) else { return }
    if progress[peer].state == .replicate { progress[peer].becomeProbe() }
    progress[peer].owesAppend = true
  }

  private mutating func handleHeartbeatResponse(_ context: [UInt8], from peer: Int) {
    progress[peer].isRecentlyActive = true
    progress[peer].isProbeOut = false
    if progress[peer].state == .replicate, progress[peer].inflights.isFull {
      progress[peer].inflights.releaseFirst()
    }
    if progress[peer].match < log.lastIndex || progress[peer].state == .probe {
      progress[peer].owesAppend = true
    }
    confirmReads(context, from: peer)
  }

  /// Commits what a quorum has, if it is of this term. Thesis §3.6.2 (figure 3.7).
  @discardableResult
  mutating func advanceCommit() -> Bool {
    let index = LogIndex(
      confState.quorumValue { id in position(id).map { progress[$0].match.rawValue } ?? 0 })
    guard log.term(at: index) == term || config.sabotage.contains(.commitsOlderTerms),
      log.commit(to: index)
    else { return false }
    admitEarlyReads()
    return true
  }

  // MARK: Sending

  var owesAppends: Bool {
    guard role == .leader else { return false }
    for peer in progress where peer.id != config.id && !peer.isPaused {
      // Only a snapshot helps it, which nobody gets who is not heard of: see `wantSnapshot`.
      if peer.next < log.firstIndex, !peer.isRecentlyActive { continue }
      if peer.owesAppend || peer.next <= log.lastIndex || peer.sentCommit < log.commit {
        return true
      }
    }
    return false
  }

  /// One output's appends: everything that each member may have now, and news of the commit.
  mutating func sendAppends() {
    for peer in progress.indices where progress[peer].id != config.id {
      let isOwed = progress[peer].owesAppend || progress[peer].sentCommit < log.commit
      if sendAppend(to: peer, evenIfEmpty: isOwed) {
        while sendAppend(to: peer, evenIfEmpty: false) {}
      }
    }
  }

  /// Whether an append went out.
  private mutating func sendAppend(to peer: Int, evenIfEmpty: Bool) -> Bool {
    guard !progress[peer].isPaused else { return false }
    let next = progress[peer].next
    let previous = LogIndex(next.rawValue - 1)
    guard let previousTerm = log.term(at: previous) else {
      progress[peer].owesAppend = false
      wantSnapshot(for: peer)
      return false
    }
    guard evenIfEmpty || next <= log.lastIndex else { return false }
    let (entries, bytes) = log.slice(from: next, bytesMax: config.messageBytesMax)
    switch progress[peer].state {
    case .replicate:
      if let last = entries.last {
        progress[peer].next = last.index + 1
        progress[peer].inflights.append(last: last.index, bytes: bytes)
      }
    case .probe:
      progress[peer].isProbeOut = true
    case .snapshot:
      preconditionFailure("an append beside a snapshot")
    }
    progress[peer].owesAppend = false
    progress[peer].sentCommit = log.commit
    let append = Message.Append(
      previousIndex: previous, previousTerm: previousTerm, commit: log.commit, entries: entries)
    send(.append(append), to: progress[peer].id)
    return !entries.isEmpty
  }

  private mutating func wantSnapshot(for peer: Int) {
    guard progress[peer].isRecentlyActive else { return }
    progress[peer].becomeSnapshot(log.compactedIndex)
    snapshotsWanted.append(progress[peer].id)
  }

  // MARK: Snapshots and reachability

  /// The message that brings `snapshot` to a member of `Output.snapshotsWanted`; nil when it is
  /// no longer wanted, or of no use since the log was compacted beyond it: then another is asked
  /// for. The shell sends it, and calls `reportSnapshot` when it knows the outcome.
  public mutating func snapshotMessage(_ snapshot: Snapshot, to id: NodeID) -> Message? {
    guard role == .leader, let peer = position(id), case .snapshot = progress[peer].state else {
      return nil
    }
    let index = snapshot.metadata.index
    precondition(index <= applied, "a snapshot of what was not applied")
    guard index >= log.compactedIndex else {
      reportSnapshot(id, isDelivered: false)
      return nil
    }
    progress[peer].becomeSnapshot(index)
    return Message(from: config.id, to: id, term: term, body: .snapshot(snapshot))
  }

  /// Notes whether the snapshot reached the member; until then nothing else is sent to it.
  public mutating func reportSnapshot(_ id: NodeID, isDelivered: Bool) {
    guard role == .leader, let peer = position(id), case .snapshot = progress[peer].state else {
      return
    }
    if !isDelivered { progress[peer].becomeSnapshot(.zero) }
    progress[peer].becomeProbe()
    // The member's own answer, or a heartbeat's, lets the probing go on.
    progress[peer].isProbeOut = true
  }

  /// Notes that messages to the member were lost.
  public mutating func reportUnreachable(_ id: NodeID) {
    guard role == .leader, let peer = position(id), progress[peer].state == .replicate else {
      return
    }
    progress[peer].becomeProbe()
  }

  // MARK: Transfer

  /// Hands leadership over to `target`, which first gets all of the log. A follower passes the
  /// wish on. Ends by itself after `electionTicks`. Thesis §3.10.
  public mutating func transferLeadership(to target: NodeID) {
    switch role {
    case .leader:
      beginTransfer(to: target)
    case .follower where leader != .none:
      messages.append(Message(from: target, to: leader, term: term, body: .transferLeader))
    case .follower, .candidate, .preCandidate:
      break
    }
  }

  private mutating func beginTransfer(to target: NodeID) {
    guard let peer = position(target), confState.isVoter(target), target != config.id,
      target != transferTarget
    else { return }
    electionElapsed = 0
    transferTarget = target
    if progress[peer].match == log.lastIndex {
      send(.timeoutNow, to: target)
    } else {
      progress[peer].owesAppend = true
    }
  }
}
