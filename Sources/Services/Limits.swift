public import MVCC

/// Every limit of the services, by name. Times in nanoseconds, sizes in bytes.
public struct Limits: Sendable {
  /// The largest proposal. etcd: `--max-request-bytes`.
  public var requestBytesMax = 1_572_864
  /// How much larger a message may be than a proposal. etcd: `grpcOverheadBytes`.
  public var messageOverheadBytes = 524_288
  /// The most compares, or operations of a branch, of a transaction. etcd: `--max-txn-ops`.
  public var txnOperationsMax = 128
  /// Calls of one loop that may be open at once.
  public var callsMax = 65_536
  /// Proposals and questions of one loop that may wait for their answers at once.
  public var requestsInFlightMax = 16_384
  /// Reads of one loop that may wait for a read index or for the store at once.
  public var readsWaitingMax = 16_384
  /// Rows that are planned, and bytes that are answered, in one step of reading: about. What is
  /// beyond them is read in the next.
  public var rowsPerStepMax = 10_000
  public var answerBytesPerStep = 4 << 20
  /// Signed tokens of one loop that are known to be in order.
  public var verifiedTokensMax = 1024
  /// By how much applying may lag behind the commit before proposals are refused.
  /// etcd: `maxGapBetweenApplyAndCommitIndex`.
  public var applyGapMax: UInt64 = 5000
  /// Times of calls that are over, beside one for each open call, which are kept.
  public var deadlinesKept = 1024
  /// Keep-alives of one stream that may wait at once: a client sends those of all its leases.
  public var keepAlivesPerStreamMax = 8192
  /// Lock, election and observe calls of one loop that may wait at once.
  public var waitersMax = 16_384
  /// Bytes of history that watchers are caught up by in one step.
  public var catchUpBytesMax = 4 << 20
  /// A proposal's time, besides two elections. etcd: `ReqTimeout`.
  public var requestTime: UInt64 = 5_000_000_000
  public var electionTimeout: UInt64 = 1_000_000_000
  /// How long a member must have been reachable to count as healthy. etcd: `HealthInterval`.
  public var healthInterval: UInt64 = 5_000_000_000
  /// How long work with passwords may take, its wait for others' included.
  public var passwordTime: UInt64 = 60_000_000_000
  /// After how long an unanswered read index is asked for again. etcd: `readIndexRetryTime`.
  public var readIndexRetryTime: UInt64 = 500_000_000
  /// How many elections may pass without a leader before streams that need one are ended.
  /// etcd: `maxNoLeaderCnt`.
  public var leaderlessElectionsMax: UInt64 = 3
  /// Bytes of watch responses moved out, and previous values looked up, in one wake.
  public var watchBytesPerWakeMax = 8 << 20
  public var previousPerWakeMax = 1000
  /// Of watchers and their streams.
  public var watch = WatchHub.Limits()
  /// The life of a lease that Lock or Campaign makes itself, in seconds.
  /// etcd: `defaultSessionTTL`.
  public var sessionSeconds: Int64 = 60

  public init() {}

  /// The largest message: a proposal and what is around it.
  public var messageBytesMax: Int { requestBytesMax + messageOverheadBytes }
  /// How long a request may take. etcd: `ServerConfig.ReqTimeout`.
  public var requestTimeout: UInt64 { requestTime + 2 * electionTimeout }
}
