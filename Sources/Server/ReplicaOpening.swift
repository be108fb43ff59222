internal import Config
internal import LMDB
internal import Lease
internal import MVCC
internal import Raft
internal import Replica

/// How a replica is made of what is stored: at the start, and when a snapshot takes its place.
struct ReplicaOpening: Sendable {
  private let lessor: LessorConfig
  private let config: ReplicaConfig

  init(_ options: Options, _ identity: Identity, _ startMilliseconds: UInt64) {
    // etcd: a lease outlasts one and a half elections.
    let ttlMin = Int64((3 * options.electionMilliseconds / 2 + 999) / 1000)
    var lessor = LessorConfig(
      ttlMin: ttlMin, revocationsPerSecond: 1000,
      checkpointInterval: options.leaseCheckpoint ? 300_000_000_000 : nil)
    lessor.keepsCheckpoints = options.leaseCheckpointPersist
    self.lessor = lessor
    var config = ReplicaConfig(
      member: identity.member, cluster: identity.cluster, quotaBytes: options.quotaBytes,
      electionTimeout: UInt64(options.electionMilliseconds) * 1_000_000,
      startMilliseconds: startMilliseconds, revocationsMax: 500,
      strictReconfiguration: options.strictReconfigCheck)
    config.hashesCompactions = options.corruption.hashesCompactions
    config.tokenKind = TokenProvider.kind(options)
    let (lifetime, overflows) = options.authTokenSeconds.multipliedReportingOverflow(
      by: 1_000_000_000)
    config.tokenLifetime = overflows ? .max : lifetime
    self.config = config
  }

  /// Reads every row of the store.
  func open(
    _ backend: LMDBBackend, _ snapshot: Snapshot?, progress: (Int) -> Void = { _ in }
  ) throws(ReplicaOpenError) -> Replica<LMDBBackend> {
    try Replica.open(
      backend: backend, snapshot: snapshot, lessor: lessor, config: config, progress: progress)
  }
}
