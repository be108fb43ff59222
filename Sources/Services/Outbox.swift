public import Basics
internal import Membership
public import Replica

/// A call of one loop; its number is never used twice.
public struct CallID: Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static func < (a: CallID, b: CallID) -> Bool { a.rawValue < b.rawValue }
}

/// What one wake of a loop has to send and to ask. Kept and cleared by the shell.
public struct Outbox: Sendable {
  public enum Reply: Sendable {
    /// The one message of a call that ends well with it, in the arena.
    case answer(CallID, Slice)
    /// One message of several, in the arena.
    case message(CallID, Slice)
    /// The end of the call: OK when there is no failure. Nothing follows.
    case finish(CallID, Failure?)
  }

  public private(set) var arena: [UInt8] = []
  /// In order, per call.
  public private(set) var replies: [Reply] = []
  public var proposals: [Proposal] = []
  public var queries: [Query] = []
  /// For a thread that may take its time; each is answered by `worked`.
  public var passwords: [PasswordWork] = []
  /// Simple tokens that were used since the last time.
  public var usedTokens: [[UInt8]] = []
  /// For the leader, which is another member or not known.
  public var forwards: [Forward] = []
  /// A read index is wanted, to be answered by `readIndexReady` with this ticket. Never reused.
  public var readIndexTicket: UInt64?
  /// Snapshot calls that begin; the shell sends them with `Services.snapshot`.
  public var snapshots: [CallID] = []
  /// Leadership is to go to this member.
  public var transferee: NodeID?

  /// Bytes of answers that are kept allocated between two wakes.
  private static let keptBytes = 16 << 20
  private let bytesMax: Int

  /// Answers that would let it hold more than `bytesMax` are refused.
  public init(bytesMax: Int = CompletionBatch.largestMessage) { self.bytesMax = bytesMax }

  mutating func message(_ call: CallID, _ bytes: RawSpan) {
    let slice = Slice(start: arena.count, count: bytes.byteCount)
    arena.append(contentsOf: bytes)
    replies.append(.message(call, slice))
  }

  mutating func answer(_ call: CallID, _ bytes: RawSpan) {
    guard arena.count + bytes.byteCount <= bytesMax else {
      return finish(call, .answerTooLarge(bytes.byteCount, bytesMax))
    }
    let slice = Slice(start: arena.count, count: bytes.byteCount)
    arena.append(contentsOf: bytes)
    replies.append(.answer(call, slice))
  }

  mutating func finish(_ call: CallID, _ failure: Failure?) {
    replies.append(.finish(call, failure))
  }

  /// Empties it for the next wake and keeps its memory.
  public mutating func removeAll() {
    arena.removeAll(keepingCapacity: arena.capacity <= Self.keptBytes)
    replies.removeAll(keepingCapacity: true)
    proposals.removeAll(keepingCapacity: true)
    queries.removeAll(keepingCapacity: true)
    snapshots.removeAll(keepingCapacity: true)
    passwords.removeAll(keepingCapacity: true)
    usedTokens.removeAll()
    forwards.removeAll(keepingCapacity: true)
    readIndexTicket = nil
    transferee = nil
  }
}

/// A question that only the leader can answer, which another member was asked.
public struct Forward: Sendable {
  public enum Kind: Sendable {
    case keepAlive(LeaseID)
    case timeToLive(LeaseID, withKeys: Bool)
    case promote(NodeID)
  }

  public var id: UInt64
  public var kind: Kind

  /// The same, for a member that leads by now.
  public var query: Query {
    switch kind {
    case .keepAlive(let lease): Query(id: id, kind: .keepAlive(lease))
    case .timeToLive(let lease, let withKeys):
      Query(id: id, kind: .timeToLive(lease, withKeys: withKeys))
    case .promote(let id):
      // How far the learner has come is not known here: whoever asked may ask again.
      Query(id: self.id, kind: .change(.promote(id), isHealthy: false))
    }
  }
}

/// What a loop knows of its member; the shell brings it up to date before each dispatch.
public struct MemberStatus: Sendable {
  public var member: NodeID
  public var cluster: ClusterID
  /// `NodeID.none` while there is none.
  public var leader = NodeID.none
  public var term = Term.zero
  public var commitIndex = LogIndex.zero
  public var appliedIndex = LogIndex.zero
  /// Monotonic, in nanoseconds.
  public var now: UInt64 = 0
  /// Since 1970.
  public var unixSeconds: Int64 = 0
  public var revision: Int64 = 1
  public var compactRevision: Int64 = -1
  public var databaseBytes = 0
  public var databaseBytesInUse = 0
  /// As `--quota-backend-bytes`.
  public var quotaBytes: Int64 = 0
  public var version = ""
  public var isLearner = false
  public var alarms: [Alarms.Alarm] = []
  /// Whether users have to say who they are.
  public var isAuthEnabled = false
  public var authRevision: UInt64 = 0
  /// Members whose log the leader knows about, and whether each has caught up with it.
  public var progress: [(member: NodeID, isReady: Bool)] = []
  /// Since when each other member that is reachable has been. Looked up, never walked through.
  public var activeSince: [NodeID: UInt64] = [:]
  public var voters: [NodeID] = []
  /// Whether `grpc.health.v1` answers SERVING.
  public var isServing = true

  public init(member: NodeID, cluster: ClusterID) {
    self.member = member
    self.cluster = cluster
  }

  public var isLeader: Bool { leader == member && member != .none }
}
