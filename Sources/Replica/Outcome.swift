internal import API
public import Basics
public import MVCC
public import Membership
public import Raft

/// What became of one request.
public struct Completion: Sendable {
  public var id: UInt64
  /// Nil when the request was carried out; then `payload` is the encoded response.
  public var failure: Failure?
  public var payload: Slice
  /// Of the auth store when the request was carried out.
  public var authRevision: UInt64 = 0
}

/// Answers for one io loop: many completions over one arena.
public struct CompletionBatch: Sendable {
  public private(set) var arena: [UInt8] = []
  public private(set) var items: [Completion] = []
  private let bytesMax: Int

  /// What would let it hold more than `bytesMax` is refused.
  public init(bytesMax: Int = Self.largestMessage) { self.bytesMax = bytesMax }

  /// Bytes of the largest message that etcd sends, and of all answers of one batch.
  public static let largestMessage = Int(Int32.max)

  public var isEmpty: Bool { items.isEmpty }

  /// Adds a refusal.
  public mutating func append(_ id: UInt64, failure: Failure) {
    items.append(Completion(id: id, failure: failure, payload: .empty))
  }

  /// Adds an encoded response; copies it.
  public mutating func append(_ id: UInt64, response: RawSpan, authRevision: UInt64 = 0) {
    guard arena.count + response.byteCount <= bytesMax else {
      return append(id, failure: .answerTooLarge(response.byteCount, bytesMax))
    }
    let payload = Slice(start: arena.count, count: response.byteCount)
    arena.append(contentsOf: response)
    items.append(
      Completion(id: id, failure: nil, payload: payload, authRevision: authRevision))
  }

  /// Empties it and keeps its memory.
  public mutating func removeAll() {
    arena.removeAll(keepingUpTo: 4 << 20)
    items.removeAll(keepingUpTo: 65_536)
  }
}

/// Something for the log.
public struct Proposal: Sendable {
  public var id: UInt64
  public var kind: EntryKind
  public var data: [UInt8]
  /// When set, only the leader of this term may propose it: see `Core.propose(kind:data:leading:)`.
  public var leading: Term?

  /// A request: a normal entry.
  public init(id: UInt64, data: [UInt8]) {
    self.id = id
    kind = .normal
    self.data = data
  }

  /// A change of the configuration.
  init(id: UInt64, change: MemberChange) {
    self.id = id
    kind = .confChange
    data = change.confChange(id: id).encoded(as: .confChange)
  }
}

/// A configuration entry that was applied, for Raft to follow.
public struct ConfigurationApplied: Sendable {
  public var index: LogIndex
  /// Nil when the change was refused: Raft then only forgets that one was pending.
  public var change: ConfChange?
  /// The same as membership sees it: whose peer URLs are new, and who is gone.
  public var member: MemberChange?
}

/// What a batch of applied entries, queries or a tick leaves to do. Kept and cleared by the
/// shell, which hands each part on.
public struct Outcome: Sendable {
  /// By io loop.
  public var completions: [CompletionBatch]
  /// For every loop's watchers.
  public var events = EventBatch()
  /// For Raft.
  public var configurations: [ConfigurationApplied] = []
  /// For the log: alarms, lease revocations, configuration changes that passed the checks.
  public var proposals: [Proposal] = []
  /// IDs of Defragment requests: answer each with `defragmented`.
  public var defragmentations: [UInt64] = []
  /// Whether members, version or alarms are other than before.
  public var membershipChanged = false
  /// Whether this member was removed from the cluster: it has to stop.
  public var removedSelf = false
  /// Why an entry could not be carried out here, though others can: the process has to end before
  /// anything that follows is stored.
  public var broken: String?

  /// `loops`: how many completions are told apart.
  public init(loops: Int) {
    precondition(loops > 0 && loops <= RequestIDs.loopsMax)
    completions = Array(repeating: CompletionBatch(), count: loops)
  }

  /// Empties it and keeps its memory.
  public mutating func removeAll() {
    for index in completions.indices { completions[index].removeAll() }
    events.removeAll()
    configurations.removeAll(keepingCapacity: true)
    proposals.removeAll(keepingCapacity: true)
    defragmentations.removeAll(keepingCapacity: true)
    membershipChanged = false
    removedSelf = false
    broken = nil
  }
}
