public import Basics

/// What an entry's data means. etcd: raftpb.EntryType.
public enum EntryKind: UInt8, Sendable {
  case normal = 0
  case confChange = 1
  case confChangeV2 = 2
}

/// One entry of the log. etcd: raftpb.Entry.
public struct Entry: Equatable, Sendable {
  public var term: Term
  public var index: LogIndex
  public var kind: EntryKind
  public var data: [UInt8]

  public init(term: Term, index: LogIndex, kind: EntryKind, data: [UInt8]) {
    self.term = term
    self.index = index
    self.kind = kind
    self.data = data
  }

  /// What the entry counts for against limits: its data and the room of its fields.
  var bytes: Int { data.count + 24 }
}

/// What must survive a restart besides the log. etcd: raftpb.HardState.
public struct HardState: Equatable, Sendable {
  public var term: Term
  public var vote: NodeID
  public var commit: LogIndex

  public init(term: Term, vote: NodeID, commit: LogIndex) {
    self.term = term
    self.vote = vote
    self.commit = commit
  }

  public static let empty = HardState(term: .zero, vote: .none, commit: .zero)
}

/// The log position that a snapshot stands for, and the members at that position.
public struct SnapshotMetadata: Equatable, Sendable {
  public var confState: ConfState
  public var index: LogIndex
  public var term: Term

  public init(confState: ConfState, index: LogIndex, term: Term) {
    self.confState = confState
    self.index = index
    self.term = term
  }
}

/// The state machine at a position of the log; the data means nothing to Raft.
public struct Snapshot: Equatable, Sendable {
  public var metadata: SnapshotMetadata
  public var data: [UInt8]

  public init(metadata: SnapshotMetadata, data: [UInt8]) {
    self.metadata = metadata
    self.data = data
  }
}
