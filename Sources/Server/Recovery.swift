internal import API
internal import Basics
internal import Config
internal import LMDB
internal import Lease
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import TLS
internal import WAL

/// What a data directory gave: the log, the store and who this member is. A class because its
/// parts are handed out one by one to the threads that will own them.
final class Recovery {
  let identity: Identity
  let backend: LMDBBackend
  private var replica: Replica<LMDBBackend>?
  let revision: Int64
  let compactRevision: Int64
  private let consistentIndex: LogIndex
  private var wal: Log<OSDisk>?
  private let disk: OSDisk
  private let snapshots: SnapshotStore<OSDisk>
  private var recovered = Recovered()
  private var snapshot: Snapshot?
  private let startSeconds = Clock.wall() / 1_000_000_000

  init(_ options: Options, _ directory: DataDirectory, _ log: Logger) throws(StartError) {
    var identity = try Identity(options)
    disk = OSDisk(syncs: options.syncsToDisk)
    snapshots = SnapshotStore(disk, directory: directory.snap)
    do throws(WALError) {
      if FileSystem.exists(directory.wal) {
        let snapshots = snapshots
        var found: Snapshot?
        wal = try Log.open(disk, directory: directory.wal, recovered: &recovered) {
          metadata, markers throws(DiskError) in
          try Self.check(metadata, &identity, directory, options)
          found = try snapshots.loadNewest(among: markers) { path in
            log.warn("a snapshot file cannot be read; an older one is used", ("file", path))
          }
          return found.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) }
            ?? .none
        }
        snapshot = found
      } else {
        wal = try Self.begin(disk, directory, identity, &recovered)
      }
    } catch {
      throw StartError("the log cannot be read: \(error.text)")
    }
    if let repair = recovered.repair { log.warn("repaired the log", ("what", repair)) }
    try Self.refuseNewer(recovered.entries, directory)
    self.identity = identity
    do throws(BackendError) {
      backend = try LMDBBackend.open(path: directory.store, syncs: options.syncsToDisk)
    } catch {
      throw StartError("the store cannot be read: \(BackgroundThread.text(error))")
    }
    let opened = try Self.open(backend, snapshot, identity, options, startSeconds, log)
    revision = opened.store.currentRevision
    compactRevision = opened.store.compactRevision
    consistentIndex = opened.store.consistentIndex
    replica = consume opened
    try checkStoreAgainstLog(directory)
  }

  /// A log that begins: the first members' configuration changes, committed in term 1.
  private static func begin(
    _ disk: OSDisk, _ directory: DataDirectory, _ identity: Identity,
    _ recovered: inout Recovered
  ) throws(WALError) -> Log<OSDisk> {
    var metadata: [UInt8] = []
    WALMetadata(nodeID: identity.member.rawValue, clusterID: identity.cluster.rawValue)
      .encode(into: &metadata)
    var log = try Log.create(disk, directory: directory.wal, metadata: metadata)
    var entries: [Entry] = []
    for member in identity.members {
      let change = MemberChange.add(member).confChange(id: 0)
      entries.append(
        Entry(
          term: Term(1), index: LogIndex(UInt64(entries.count + 1)), kind: .confChange,
          data: change.encoded(as: .confChange)))
    }
    let state = HardState(
      term: Term(1), vote: .none, commit: LogIndex(UInt64(entries.count)))
    try log.append(entries, state)
    try log.sync()
    recovered.metadata = metadata
    recovered.entries = entries
    recovered.hardState = state
    return log
  }

  /// The log says whose it is. As in etcd, that counts more than the flags; but flags that
  /// describe another new cluster are refused.
  private static func check(
    _ metadata: [UInt8], _ identity: inout Identity, _ directory: DataDirectory,
    _ options: Options
  ) throws(DiskError) {
    func refuse(_ text: String) -> DiskError {
      DiskError(text, isFull: false, isMissing: false)
    }
    func hex(_ value: UInt64) -> String { String(value, radix: 16) }
    guard let found = try? WALMetadata(decoding: metadata.rawSpan) else {
      throw refuse("the log in \(directory.wal) does not say whose it is")
    }
    let member = found.nodeID
    let cluster = found.clusterID
    let isSame = member == identity.member.rawValue && cluster == identity.cluster.rawValue
    guard isSame || !options.isNewCluster || !options.namesCluster else {
      throw refuse(
        "the data directory \(directory.root) belongs to member \(hex(member)) of cluster "
          + "\(hex(cluster)); the flags describe member \(hex(identity.member.rawValue)) of "
          + "cluster \(hex(identity.cluster.rawValue)) [--data-dir, --initial-cluster, "
          + "--initial-cluster-token]")
    }
    identity.member = NodeID(member)
    identity.cluster = ClusterID(cluster)
  }

  /// A log whose cluster has moved on to a newer version is not ours to write.
  private static func refuseNewer(
    _ entries: [Entry], _ directory: DataDirectory
  ) throws(StartError) {
    // Only small entries with the field's tag are looked at: there may be very many others.
    for entry in entries where entry.kind == .normal && entry.data.count < 256 {
      let data = entry.data
      guard zip(data, data.dropFirst()).contains(where: { $0 == 0xa2 && $1 == 0x51 }),
        let request = try? InternalRaftRequest(decoding: data.rawSpan),
        let text = request.clusterVersionSet?.ver, let version = ClusterVersion(text),
        version > ClusterVersion(Server.etcdVersion)!
      else { continue }
      throw StartError(
        "the cluster of the data directory \(directory.root) runs at version \(text), this "
          + "server at \(Server.etcdVersion); start a newer one [--data-dir]")
    }
  }

  private func checkStoreAgainstLog(_ directory: DataDirectory) throws(StartError) {
    let last = recovered.entries.last?.index ?? snapshot?.metadata.index ?? .zero
    guard consistentIndex <= last else {
      throw StartError(
        "the store \(directory.store) holds entry \(consistentIndex.rawValue), the log in "
          + "\(directory.wal) ends at \(last.rawValue): part of the log is missing")
    }
    let first = snapshot?.metadata.index ?? .zero
    guard consistentIndex >= first else {
      throw StartError(
        "the store \(directory.store) ends at entry \(consistentIndex.rawValue), the log "
          + "begins behind \(first.rawValue): the store is too old for this log")
    }
  }

  static func open(
    _ backend: LMDBBackend, _ snapshot: Snapshot?, _ identity: Identity, _ options: Options,
    _ startSeconds: UInt64, _ log: Logger
  ) throws(StartError) -> Replica<LMDBBackend> {
    let election = UInt64(options.electionMilliseconds) * 1_000_000
    // etcd: a lease outlasts one and a half elections.
    let ttlMin = Int64((3 * options.electionMilliseconds / 2 + 999) / 1000)
    var lessor = LessorConfig(
      ttlMin: ttlMin, revocationsPerSecond: 1000,
      checkpointInterval: options.leaseCheckpoint ? 300_000_000_000 : nil)
    lessor.keepsCheckpoints = options.leaseCheckpointPersist
    var config = ReplicaConfig(
      member: identity.member, cluster: identity.cluster, quotaBytes: options.quotaBytes,
      electionTimeout: election, startSeconds: startSeconds, revocationsMax: 500,
      strictReconfiguration: options.strictReconfigCheck)
    config.tokenKind = TokenProvider.kind(options)
    let (lifetime, overflows) = options.authTokenSeconds.multipliedReportingOverflow(
      by: 1_000_000_000)
    config.tokenLifetime = overflows ? .max : lifetime
    do throws(ReplicaOpenError) {
      return try Replica.open(
        backend: backend, snapshot: snapshot, lessor: lessor, config: config
      ) { rows in
        log.info("reading the store", ("rows", String(rows)))
      }
    } catch {
      switch error {
      case .backend(let error):
        throw StartError("the store cannot be read: \(BackgroundThread.text(error))")
      case .snapshot, .member:
        throw StartError("the members in the newest snapshot file cannot be read: \(error)")
      case .row(let bucket):
        throw StartError("the store cannot be read: bucket \(bucket.name) has a broken row")
      }
    }
  }

  func takeReplica() -> Replica<LMDBBackend> { replica.take()! }

  /// The threads that are waited for at the end.
  struct Threads {
    var wal: Thread
    var apply: Thread
    var store: Thread
  }

  /// Starts the threads that do not speak to clients.
  func startThreads(_ options: Options, _ shared: Shared) -> Threads {
    let metadata = snapshot?.metadata
    var config = Raft.Config(
      id: identity.member,
      electionTicks: max(2, options.electionMilliseconds / options.heartbeatMilliseconds),
      heartbeatTicks: 1)
    config.preVote = options.preVote
    let own = identity.members.first { $0.id == identity.member }
    let settings = ApplyThread.Settings(
      batchNanoseconds: options.batchNanoseconds,
      batchOperationsMax: options.batchOperationsMax,
      compactionKeysPerStep: options.compactionKeysPerStep, snapshotCount: options.snapshotCount,
      publication: Member(
        id: identity.member, name: options.name, peerURLs: own?.peerURLs ?? [],
        clientURLs: options.advertiseClient.map(\.text), isLearner: false),
      serverVersion: ClusterVersion(Server.etcdVersion)!, startSeconds: startSeconds,
      compaction: AutoCompactor.Mode(options.compaction))
    let recovered = recovered
    let raftConfig = config
    let tick = UInt64(options.heartbeatMilliseconds) * 1_000_000
    let seed = Clock.wall()
    _ = Thread.start("raft") {
      let core = Core(
        config: raftConfig, hardState: recovered.hardState,
        confState: metadata?.confState ?? ConfState(voters: []), snapshot: metadata,
        entries: recovered.entries, applied: metadata?.index ?? .zero, seed: seed)
      // The upper half of a context is the time of the start: none is ever used again.
      RaftThread(
        core: core, shared: shared, tickNanoseconds: tick,
        firstContext: (seed / 1_000_000_000) << 32
      ).run()
    }
    let handover = WALHandover(wal.take()!)
    let snapshots = snapshots
    let limits = (options.walFilesMax, options.snapshotFilesMax, options.snapshotCatchUpEntries)
    let walThread = Thread.start("wal") {
      WALThread(
        wal: handover.take(), snapshots: snapshots, shared: shared, walFilesMax: limits.0,
        snapshotFilesMax: limits.1, catchUpEntries: limits.2
      ).run()
    }
    let apply = Thread.start("apply") {
      ApplyThread(shared: shared, settings: settings, snapshotIndex: metadata?.index ?? .zero)
        .run()
    }
    let disk = disk
    let store = Thread.start("store") { BackgroundThread(shared: shared, disk: disk).run() }
    return Threads(wal: walThread, apply: apply, store: store)
  }
}

/// Carries the log to its thread.
final class WALHandover: @unchecked Sendable {
  // Shared safely: filled before the thread starts, emptied once by it.
  private var wal: Log<OSDisk>?
  init(_ wal: consuming Log<OSDisk>) { self.wal = consume wal }
  func take() -> Log<OSDisk> { wal.take()! }
}
