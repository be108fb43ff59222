public import Basics

/// What members say to each other. Each body stands for one type of raftpb.Message, and each
/// field for one of its fields; `propose` and `readIndex` travel with term 0.
public struct Message: Equatable, Sendable {
  /// The sender; for `transferLeader` the member that is to lead.
  public var from: NodeID
  public var to: NodeID
  public var term: Term
  public var body: Body

  public init(from: NodeID, to: NodeID, term: Term, body: Body) {
    self.from = from
    self.to = to
    self.term = term
    self.body = body
  }

  public enum Body: Equatable, Sendable {
    /// etcd: MsgApp
    case append(Append)
    /// etcd: MsgAppResp
    case appendResponse(AppendResponse)
    /// etcd: MsgVote
    case vote(Ballot)
    /// etcd: MsgVoteResp
    case voteResponse(isRejected: Bool)
    /// etcd: MsgPreVote
    case preVote(Ballot)
    /// etcd: MsgPreVoteResp
    case preVoteResponse(isRejected: Bool)
    /// etcd: MsgHeartbeat
    case heartbeat(commit: LogIndex, context: [UInt8])
    /// etcd: MsgHeartbeatResp
    case heartbeatResponse(context: [UInt8])
    /// etcd: MsgSnap
    case snapshot(Snapshot)
    /// etcd: MsgTimeoutNow
    case timeoutNow
    /// etcd: MsgProp; the entries' terms and indices mean nothing yet.
    case propose([Entry])
    /// etcd: MsgReadIndex, the context being the data of its one entry
    case readIndex(context: [UInt8])
    /// etcd: MsgReadIndexResp
    case readIndexResponse(index: LogIndex, context: [UInt8])
    /// etcd: MsgTransferLeader
    case transferLeader
  }

  public struct Append: Equatable, Sendable {
    /// raftpb: index and logTerm: the entry before the first one sent.
    public var previousIndex: LogIndex
    public var previousTerm: Term
    public var commit: LogIndex
    public var entries: [Entry]

    public init(
      previousIndex: LogIndex, previousTerm: Term, commit: LogIndex, entries: [Entry]
    ) {
      self.previousIndex = previousIndex
      self.previousTerm = previousTerm
      self.commit = commit
      self.entries = entries
    }
  }

  public struct AppendResponse: Equatable, Sendable {
    /// Accepted: the last index known to match. Rejected: the `previousIndex` refused.
    public var index: LogIndex
    /// raftpb: reject, with rejectHint and logTerm; nil when accepted.
    public var rejection: Rejection?

    public init(index: LogIndex, rejection: Rejection?) {
      self.index = index
      self.rejection = rejection
    }
  }

  /// Where the follower's log may begin to match: its newest entry with a term not above the
  /// one asked for.
  public struct Rejection: Equatable, Sendable {
    public var hintIndex: LogIndex
    public var hintTerm: Term

    public init(hintIndex: LogIndex, hintTerm: Term) {
      self.hintIndex = hintIndex
      self.hintTerm = hintTerm
    }
  }

  public struct Ballot: Equatable, Sendable {
    /// raftpb: index and logTerm: the candidate's last entry.
    public var lastIndex: LogIndex
    public var lastTerm: Term
    /// raftpb: the context "CampaignTransfer": the leader wants this, its lease does not count.
    public var isTransfer: Bool

    public init(lastIndex: LogIndex, lastTerm: Term, isTransfer: Bool) {
      self.lastIndex = lastIndex
      self.lastTerm = lastTerm
      self.isTransfer = isTransfer
    }
  }

  /// Terms and indices above this are refused, so that no sum of them can overflow.
  static let numberMax: UInt64 = 1 << 62

  /// Whether the numbers are usable: small enough, entries in a row with terms that never fall
  /// and never pass the sender's. A message that is not is dropped.
  var isWellFormed: Bool {
    guard term.rawValue <= Message.numberMax else { return false }
    switch body {
    case .append(let append):
      return Message.isWellFormed(append, term: term)
    case .appendResponse(let response):
      return Message.isUsable(response.index)
        && response.rejection.map { Message.isUsable($0.hintIndex) } ?? true
    case .vote(let ballot), .preVote(let ballot):
      return Message.isUsable(ballot.lastIndex)
    case .heartbeat(let commit, _):
      return Message.isUsable(commit)
    case .snapshot(let snapshot):
      return Message.isUsable(snapshot.metadata.index) && snapshot.metadata.term <= term
    case .readIndexResponse(let index, _):
      return Message.isUsable(index)
    case .propose(let entries):
      return !entries.isEmpty
    case .voteResponse, .preVoteResponse, .heartbeatResponse, .timeoutNow, .readIndex,
      .transferLeader:
      return true
    }
  }

  private static func isUsable(_ index: LogIndex) -> Bool { index.rawValue <= numberMax }

  private static func isWellFormed(_ append: Append, term: Term) -> Bool {
    guard isUsable(append.previousIndex), isUsable(append.commit), append.previousTerm <= term
    else { return false }
    var index = append.previousIndex
    var newest = append.previousTerm
    for entry in append.entries {
      guard entry.index == index + 1, entry.term >= newest, entry.term <= term else {
        return false
      }
      index = entry.index
      newest = entry.term
    }
    return true
  }
}
