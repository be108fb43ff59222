internal import Basics

extension Core {
  /// Stands for election, unless a membership change is committed here and not yet applied: its
  /// outcome decides who votes.
  mutating func campaign(isTransfer: Bool) {
    guard role != .leader, isPromotable, !hasUnappliedConfChange else { return }
    if config.preVote, !isTransfer {
      becomePreCandidate()
    } else {
      becomeCandidate(isTransfer: isTransfer)
    }
  }

  private var hasUnappliedConfChange: Bool {
    var index = applied
    while index < log.commit {
      index = index + 1
      if log.kind(at: index) != .normal { return true }
    }
    return false
  }

  /// Asks who would vote, without a new term: nothing to write, so the own answer counts at
  /// once. Thesis §9.6.
  private mutating func becomePreCandidate() {
    role = .preCandidate
    leader = .none
    votes.removeAll(keepingCapacity: true)
    ownVote = .none
    electionElapsed = 0
    drawElectionTimeout()
    for id in confState.electorate where id != config.id {
      let ballot = ownBallot(isTransfer: false)
      messages.append(
        Message(from: config.id, to: id, term: nextTerm, body: .preVote(ballot)))
    }
    record(vote: config.id, isGranted: true)
  }

  /// The term and the own vote must be durable before anyone hears of them or they count.
  private mutating func becomeCandidate(isTransfer: Bool) {
    precondition(role != .leader)
    reset(term: nextTerm)
    role = .candidate
    vote = config.id
    ownVote = .unwritten
    for id in confState.electorate where id != config.id {
      sendDurably(.vote(ownBallot(isTransfer: isTransfer)), to: id, term: term)
    }
  }

  private var nextTerm: Term { Term(term.rawValue + 1) }

  private func ownBallot(isTransfer: Bool) -> Message.Ballot {
    Message.Ballot(lastIndex: log.lastIndex, lastTerm: log.lastTerm, isTransfer: isTransfer)
  }

  mutating func stepCandidate(_ message: Message) {
    switch message.body {
    case .append, .heartbeat, .snapshot:
      becomeFollower(term: message.term, leader: message.from)
      stepFollower(message)
    case .preVoteResponse(let isRejected) where role == .preCandidate:
      record(vote: message.from, isGranted: !isRejected)
    case .voteResponse(let isRejected) where role == .candidate:
      record(vote: message.from, isGranted: !isRejected)
    default:
      break
    }
  }

  /// Counts a vote, the first of each voter only, and acts on the outcome.
  mutating func record(vote node: NodeID, isGranted: Bool) {
    guard confState.isVoter(node), !votes.contains(where: { $0.node == node }) else { return }
    votes.append((node, isGranted))
    let outcome = confState.result { id in votes.first { $0.node == id }?.isGranted }
    switch outcome {
    case .pending: break
    case .lost: becomeFollower(term: term, leader: .none)
    case .won where role == .preCandidate: becomeCandidate(isTransfer: false)
    case .won: becomeLeader()
    }
  }
}
