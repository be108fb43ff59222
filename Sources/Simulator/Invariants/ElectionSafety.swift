internal import Basics
internal import Raft

/// At most one leader in a term, and at most one vote of a member in it. Raft thesis §3.4, §3.6.3;
/// etcd raft: `Step`, MsgVote.
struct ElectionSafety {
  private struct Vote {
    var term: Term
    var voter: NodeID
    var candidate: NodeID
  }

  private var leaders: [(term: Term, node: NodeID)] = []
  private var votes: [Vote] = []

  mutating func leads(_ node: NodeID, term: Term) -> String? {
    if let known = leaders.first(where: { $0.term == term }) {
      return known.node == node ? nil : "two members lead in term \(term.rawValue)"
    }
    leaders.append((term, node))
    return nil
  }

  mutating func voted(_ voter: NodeID, for candidate: NodeID, term: Term) -> String? {
    if let known = votes.first(where: { $0.term == term && $0.voter == voter }) {
      return known.candidate == candidate ? nil : "a member voted twice in term \(term.rawValue)"
    }
    votes.append(Vote(term: term, voter: voter, candidate: candidate))
    return nil
  }
}
