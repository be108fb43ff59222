internal import Basics

extension Core {
  mutating func becomeFollower(term: Term, leader: NodeID) {
    reset(term: term)
    role = .follower
    self.leader = leader
  }

  /// Settles the terms: whether the message is to be handled. Thesis §3.3, §4.2.3, §9.6.
  mutating func admit(_ message: Message) -> Bool {
    if message.term > term { return admitNewer(message) }
    if message.term == term { return true }
    switch message.body {
    case .heartbeat, .append:
      // A leader of the past learns of the new term from any answer; without it a member that
      // came back with a higher term would stay deaf. etcd: raft.Step
      if config.checkQuorum || config.preVote {
        let response = Message.AppendResponse(index: .zero, rejection: nil)
        sendDurably(.appendResponse(response), to: message.from, term: term)
      }
    case .preVote:
      sendDurably(.preVoteResponse(isRejected: true), to: message.from, term: term)
    default:
      break
    }
    return false
  }

  private mutating func admitNewer(_ message: Message) -> Bool {
    switch message.body {
    case .vote(let ballot), .preVote(let ballot):
      let hasLease = config.checkQuorum && leader != .none && electionElapsed < config.electionTicks
      if hasLease && !ballot.isTransfer { return false }
      if case .preVote = message.body { return true }
      becomeFollower(term: message.term, leader: .none)
    case .preVoteResponse(isRejected: false):
      // Carries the term that the candidate asked about, which nobody has reached yet.
      break
    case .append, .heartbeat, .snapshot:
      becomeFollower(term: message.term, leader: message.from)
    default:
      becomeFollower(term: message.term, leader: .none)
    }
    return true
  }

  /// Thesis §3.4, §3.6.1.
  mutating func handleVote(_ message: Message, _ ballot: Message.Ballot, isPreVote: Bool) {
    let isFree =
      vote == message.from || (vote == .none && leader == .none)
      || (isPreVote && message.term > term) || config.sabotage.contains(.votesTwice)
    let isGranted =
      isFree
      && (log.isUpToDate(lastIndex: ballot.lastIndex, lastTerm: ballot.lastTerm)
        || config.sabotage.contains(.votesForStaleLogs))
    let answer: Message.Body =
      isPreVote
      ? .preVoteResponse(isRejected: !isGranted) : .voteResponse(isRejected: !isGranted)
    sendDurably(answer, to: message.from, term: isGranted ? message.term : term)
    if isGranted, !isPreVote {
      electionElapsed = 0
      vote = message.from
    }
  }

  mutating func stepFollower(_ message: Message) {
    switch message.body {
    case .append(let append):
      follow(message.from)
      handleAppend(append, from: message.from)
    case .heartbeat(let commit, let context):
      follow(message.from)
      handleHeartbeat(commit: commit, context: context, from: message.from)
    case .snapshot(let snapshot):
      follow(message.from)
      handleSnapshot(snapshot, from: message.from)
    case .transferLeader:
      guard leader != .none else { return }
      messages.append(
        Message(from: message.from, to: leader, term: term, body: .transferLeader))
    case .timeoutNow:
      campaign(isTransfer: true)
    case .readIndexResponse(let index, let context):
      finishForwardedRead(index: index, context: context)
    default:
      break
    }
  }

  /// One term has one leader. Thesis §3.4 (Election Safety).
  private mutating func follow(_ sender: NodeID) {
    precondition(leader == .none || leader == sender, "two leaders in one term")
    electionElapsed = 0
    leader = sender
  }

  /// Thesis §3.5; the hint: etcd's raft.handleAppendEntries.
  mutating func handleAppend(_ append: Message.Append, from sender: NodeID) {
    guard append.previousIndex >= log.commit else {
      let response = Message.AppendResponse(index: log.commit, rejection: nil)
      sendDurably(.appendResponse(response), to: sender, term: term)
      return
    }
    guard
      log.term(at: append.previousIndex) == append.previousTerm
        || append.previousIndex <= log.lastIndex && config.sabotage.contains(.appendsAnywhere)
    else {
      let hint = log.newest(atOrBelow: append.previousIndex, notAbove: append.previousTerm)
      let rejection = Message.Rejection(hintIndex: hint, hintTerm: log.term(at: hint) ?? .zero)
      let response = Message.AppendResponse(index: append.previousIndex, rejection: rejection)
      sendDurably(.appendResponse(response), to: sender, term: term)
      return
    }
    log.merge(append.entries)
    let last = append.previousIndex + append.entries.count
    _ = log.commit(to: min(append.commit, last))
    let response = Message.AppendResponse(index: last, rejection: nil)
    sendDurably(.appendResponse(response), to: sender, term: term)
  }

  mutating func handleHeartbeat(commit: LogIndex, context: [UInt8], from sender: NodeID) {
    _ = log.commit(to: commit)
    send(.heartbeatResponse(context: context), to: sender)
  }

  mutating func handleSnapshot(_ snapshot: Snapshot, from sender: NodeID) {
    let index = restore(snapshot) ? log.lastIndex : log.commit
    let response = Message.AppendResponse(index: index, rejection: nil)
    sendDurably(.appendResponse(response), to: sender, term: term)
  }

  /// Takes the snapshot in place of the log; false when the log has it all already.
  private mutating func restore(_ snapshot: Snapshot) -> Bool {
    let metadata = snapshot.metadata
    guard metadata.index > log.commit, metadata.confState.contains(config.id) else { return false }
    if log.term(at: metadata.index) == metadata.term,
      !config.sabotage.contains(.snapshotsDropEntries)
    {
      _ = log.commit(to: metadata.index)
      return false
    }
    log.restore(index: metadata.index, term: metadata.term)
    confState = metadata.confState
    newSnapshot = snapshot
    applied = metadata.index
    applying = metadata.index
    applyingBytes = 0
    return true
  }
}
