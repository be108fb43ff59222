public import Basics

/// A write that was given out; handed back to `Core.appended` once it is durable.
/// Of two, the greater was given out later.
public struct WriteMark: Comparable, Sendable {
  let sequence: UInt64
  let last: LogIndex

  public static func < (a: WriteMark, b: WriteMark) -> Bool { a.sequence < b.sequence }
}

public enum Role: UInt8, Sendable {
  case follower
  case preCandidate
  case candidate
  case leader
}

/// Who one is, in which term, and whom one follows.
public struct Standing: Equatable, Sendable {
  public var role: Role
  public var term: Term
  /// The leader, or none while it is not known.
  public var leader: NodeID
}

/// What the shell does next, field by field from the top:
///
/// 1. send `messages` — at once, beside the write
/// 2. if `mark` is set: store `snapshot`, write `entries` (they replace whatever the log holds
///    from the first one's index on) and `hardState`, sync if `mustSync`; then call
///    `Core.appended(mark)` and send `then`
/// 3. apply `snapshot`, then `committed`, and call `Core.applied(upTo:)`
/// 4. answer `reads` once their index is applied
///
/// Writes are made durable in the order in which they were given out. The next output may be
/// taken before; several marks may be answered by the newest alone. Kept and used again, an
/// output allocates nothing.
public struct Output: Sendable {
  public internal(set) var messages: [Message] = []
  /// Members that need a snapshot: see `Core.snapshotMessage` and `Core.reportSnapshot`.
  public internal(set) var snapshotsWanted: [NodeID] = []
  public internal(set) var snapshot: Snapshot?
  public internal(set) var entries: [Entry] = []
  public internal(set) var hardState: HardState?
  public internal(set) var mustSync = false
  /// Set when there is something to write, or when `then` waits for an earlier write.
  public internal(set) var mark: WriteMark?
  public internal(set) var then: [Message] = []
  public internal(set) var committed: [Entry] = []
  public internal(set) var reads: [(context: UInt64, index: LogIndex)] = []
  /// Set when it changed.
  public internal(set) var standing: Standing?

  public init() {}

  mutating func removeAll() {
    messages.removeAll(keepingCapacity: true)
    snapshotsWanted.removeAll(keepingCapacity: true)
    snapshot = nil
    entries.removeAll(keepingCapacity: true)
    hardState = nil
    mustSync = false
    mark = nil
    then.removeAll(keepingCapacity: true)
    committed.removeAll(keepingCapacity: true)
    reads.removeAll(keepingCapacity: true)
    standing = nil
  }
}

/// A look inside, for metrics and status answers.
public struct Status: Sendable {
  public var id: NodeID
  public var standing: Standing
  public var vote: NodeID
  public var commit: LogIndex
  public var applied: LogIndex
  public var firstIndex: LogIndex
  public var lastIndex: LogIndex
  public var stableIndex: LogIndex
  public var confState: ConfState
  /// The member that leadership is being transferred to, or none.
  public var transferTarget: NodeID
  /// Ascending by ID; empty unless this node leads.
  public var progress: [Progress]
}

/// Why a proposal was not taken.
public enum ProposeError: Error, Equatable, Sendable {
  case noLeader
  /// Leadership is being handed over; try again.
  case transferring
  /// Too many bytes wait for their commit.
  case tooManyUncommitted
  /// This leader was removed from the configuration.
  case notMember
  /// Another membership change is not applied yet, or it does not fit the configuration.
  case confChangeRefused
  case malformedConfChange
}
