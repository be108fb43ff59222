internal import API
public import Auth
public import Basics
public import Lease
public import MVCC
public import Membership
public import Raft

/// What a replica has to know that no log tells.
public struct ReplicaConfig: Sendable {
  public var member: NodeID
  public var cluster: ClusterID
  /// How many bytes the backend may take before NOSPACE is raised; below 0: no limit.
  public var quotaBytes: Int64
  /// In nanoseconds: by how much a new leader extends every lease.
  public var electionTimeout: UInt64
  /// Milliseconds since any epoch, at the start: see `RequestIDs`.
  public var startMilliseconds: UInt64
  /// How many lease revocations one tick proposes at most.
  public var revocationsMax: Int
  /// Whether changes that endanger a quorum are refused.
  public var strictReconfiguration: Bool
  /// How users are known once they have said their password.
  public var tokenKind = TokenKind.simple
  /// How long a simple token lives from its last use on, in nanoseconds.
  /// etcd: `--auth-token-ttl`.
  public var tokenLifetime: UInt64 = 300_000_000_000
  /// Whether what a compaction finds is hashed, for comparison with other members: a look at
  /// every row up to its revision.
  public var hashesCompactions = false

  public init(
    member: NodeID, cluster: ClusterID, quotaBytes: Int64, electionTimeout: UInt64,
    startMilliseconds: UInt64, revocationsMax: Int, strictReconfiguration: Bool
  ) {
    self.member = member
    self.cluster = cluster
    self.quotaBytes = quotaBytes
    self.electionTimeout = electionTimeout
    self.startMilliseconds = startMilliseconds
    self.revocationsMax = revocationsMax
    self.strictReconfiguration = strictReconfiguration
  }
}

/// What a login answers with. etcd: `--auth-token`.
public enum TokenKind: Sendable {
  /// A random word that each member remembers.
  case simple
  /// A JWT, which the member that was asked signs.
  case signed
  /// Nothing: no login succeeds.
  case none
}

/// The state that the log decides: applies committed entries to store, leases, alarms and
/// members, and answers what only that state can answer. etcd: `EtcdServer.apply`.
///
/// Belongs to the apply thread; `store` is written under the shell's write lock. The same entries
/// give the same state whatever the member, the time and the hardware.
public struct Replica<B: Backend>: ~Copyable {
  public var store: Store<B>
  var reader: B.Reader
  /// For hashes alone, which keep their snapshot over many steps.
  var hashReader: B.Reader
  var hashJobs: [HashJob<B>] = []
  /// Of the newest compactions, oldest first; empty where they are not asked for.
  public internal(set) var compactionHashes: [CompactionHash] = []
  var lessor: Lessor
  public internal(set) var cluster: Cluster
  public internal(set) var alarms: Alarms
  /// Read by io threads under the read lock, as `store` is.
  public var access: AccessControl
  public internal(set) var configuration: ConfState
  let config: ReplicaConfig
  /// The last entry that was looked at, applied before or now.
  public internal(set) var appliedIndex: LogIndex
  public internal(set) var appliedTerm: Term
  var ids: RequestIDs
  /// The term this member leads, as far as the apply thread has been told.
  var leadingTerm: Term?
  /// The newest term whose first, empty entry has been applied.
  var startedTerm = Term.zero
  /// Whether an alarm for lack of space has been proposed and not yet been seen.
  var noSpaceProposed = false
  /// When tokens were looked through for those whose time is up.
  var tokensExpiredAt: UInt64 = 0
  /// What the backend took when the batch in hand began.
  var backendBytes = 0
  /// Compactions whose callers wait until it is done on disk.
  var physicalCompactions: [UInt64] = []
  /// Whether a compaction has steps left, and waits for no hash.
  public internal(set) var isCompacting: Bool
  public internal(set) var tally = ApplyTally()
  /// Kept between requests, for its memory.
  var scratch: [UInt8] = []

  /// `applied`: the entry that the snapshot of `cluster` ends with; entries after it are applied
  /// again to membership, and to the store those after its consistent index.
  public init(
    store: consuming Store<B>, reader: B.Reader, hashReader: B.Reader, lessor: consuming Lessor,
    cluster: Cluster, alarms: Alarms, access: AuthStore, configuration: ConfState,
    applied: (index: LogIndex, term: Term), config: ReplicaConfig
  ) {
    isCompacting = store.isCompacting
    self.store = store
    self.reader = reader
    self.hashReader = hashReader
    self.lessor = lessor
    self.cluster = cluster
    self.alarms = alarms
    self.access = AccessControl(
      store: access, tokens: TokenTable(lifetime: config.tokenLifetime))
    self.configuration = configuration
    self.config = config
    appliedIndex = applied.index
    appliedTerm = applied.term
    ids = RequestIDs(
      member: config.member, startMilliseconds: config.startMilliseconds, loop: RequestIDs.loopsMax)
    saveAccess()
  }

  var header: ResponseHeaderView {
    ResponseHeaderView(
      clusterID: config.cluster, memberID: config.member, revision: store.currentRevision,
      raftTerm: appliedTerm)
  }

  /// The header of the cluster service, which etcd leaves without a revision.
  var memberHeader: ResponseHeaderView {
    ResponseHeaderView(
      clusterID: config.cluster, memberID: config.member, revision: 0, raftTerm: appliedTerm)
  }

  /// The loop that waits for `id`, when one of ours does.
  func loop(of id: UInt64, _ outcome: borrowing Outcome) -> Int? {
    guard let loop = RequestIDs.loop(of: id, member: config.member),
      loop < outcome.completions.count
    else { return nil }
    return loop
  }

  func complete(_ id: UInt64, failure: Failure, _ outcome: inout Outcome) {
    guard let loop = loop(of: id, outcome) else { return }
    outcome.completions[loop].append(id, failure: failure)
  }

  func complete(_ id: UInt64, response: borrowing [UInt8], _ outcome: inout Outcome) {
    guard let loop = loop(of: id, outcome) else { return }
    outcome.completions[loop].append(
      id, response: response.rawSpan, authRevision: access.store.revision)
  }
}
