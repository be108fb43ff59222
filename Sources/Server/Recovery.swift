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
  private let startMilliseconds = Clock.wall() / 1_000_000

  let opening: ReplicaOpening
  let snapshotFiles: SnapshotFiles
  /// As the newest snapshot has them.
  let members: PeerMembers
  /// Whether there was a log: the member has run before.
  let hasRun: Bool

  init(
    _ options: Options, _ directory: DataDirectory, _ tls: TLSFiles?, _ log: Logger
  ) throws(StartError) {
    let hasLog = FileSystem.exists(directory.wal)
    hasRun = hasLog
    if !hasLog { try Self.checkIsEmpty(directory, options) }
    var identity: Identity
    if hasLog || options.isNewCluster {
      identity = try Identity(options)
      if !hasLog { try Joining.checkIsNew(identity, options, tls) }
    } else {
      identity = try Joining.join(options, tls, log)
    }
    disk = OSDisk(syncs: options.syncsToDisk)
    snapshots = SnapshotStore(disk, directory: directory.snap)
    do throws(WALError) {
      if hasLog {
        let snapshots = snapshots
        var found: Snapshot?
        wal = try Log.open(disk, directory: directory.wal, recovered: &recovered) {
          metadata, markers throws(DiskError) in
          try identity.take(metadata, directory)
          found = try snapshots.loadNewest(among: markers) { path in
            log.warn("a snapshot file cannot be read; an older one is used", ("file", path))
          }
          return found.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) }
            ?? .none
        }
        snapshot = found
        // Of members only the log knows now.
        identity.members = []
      } else {
        wal = try Self.begin(disk, directory, identity, &recovered)
      }
    } catch {
      throw StartError("the log cannot be read: \(error.text)")
    }
    if let repair = recovered.repair { log.warn("repaired the log", ("what", repair)) }
    try Self.refuseNewer(recovered.entries, directory)
    try identity.check(recovered.entries, options, directory)
    // The last that is done before the store: what refuses the start leaves nothing of it.
    if directory.isEtcds { try EtcdDirectory(directory: directory, log: log).takeOver() }
    self.identity = identity
    snapshotFiles = SnapshotFiles(directory: directory.snap)
    opening = ReplicaOpening(options, identity, startMilliseconds)
    backend = try Self.openStore(directory.store, options)
    var opened = try Self.open(opening, backend, snapshot, log)
    if let snapshot, opened.store.consistentIndex < snapshot.metadata.index,
      FileSystem.exists(snapshotFiles.store(snapshot.metadata.index))
    {
      log.info("taking the store of a received snapshot")
      do throws(BackendError) {
        try backend.replace(with: snapshotFiles.store(snapshot.metadata.index))
      } catch {
        throw StartError("the store cannot be read: \(error.text)")
      }
      opened = try Self.open(opening, backend, snapshot, log)
    }
    snapshotFiles.clean()
    members = PeerMembers(opened.cluster)
    revision = opened.store.currentRevision
    compactRevision = opened.store.compactRevision
    consistentIndex = opened.store.consistentIndex
    replica = consume opened
    try checkStoreAgainstLog(directory)
    if options.forceNewCluster { try standAlone(log) }
  }

  /// Leaves this member alone in its cluster: what is not known to be committed is cut off, and
  /// all others are removed. etcd: `restartAsStandaloneNode`.
  private func standAlone(_ log: Logger) throws(StartError) {
    let first = snapshot?.metadata.index ?? .zero
    let commit = max(recovered.hardState.commit, max(consistentIndex, first))
    recovered.entries.removeAll { $0.index > commit }
    var members = snapshot?.metadata.confState.members ?? []
    for entry in recovered.entries where entry.kind == .confChange {
      guard let raw = try? ConfChange(kind: entry.kind, data: entry.data),
        let change = try? MemberChange(raw)
      else { continue }
      members.removeAll { $0 == change.node }
      if case .remove = change { continue }
      members.append(change.node)
    }
    var changes = members.filter { $0 != identity.member }.map { MemberChange.remove($0) }
    if !members.contains(identity.member) {
      changes.append(
        .add(
          Member(
            id: identity.member, name: "", peerURLs: ["http://localhost:2380"], clientURLs: [],
            isLearner: false)))
    }
    var state = recovered.hardState
    var index = commit
    var added: [Entry] = []
    for change in changes {
      index = index + 1
      added.append(
        Entry(
          term: max(state.term, Term(1)), index: index, kind: .confChange,
          data: change.confChange(id: 0).encoded(as: .confChange)))
    }
    state.commit = index
    state.term = max(state.term, Term(1))
    do throws(WALError) {
      try wal?.append(added, state)
      try wal?.sync()
    } catch {
      throw StartError("the log cannot be written: \(error.text)")
    }
    recovered.entries += added
    recovered.hardState = state
    log.warn(
      "forcing restart member as the only one of its cluster",
      ("removed", String(changes.count)), ("commit-index", String(index.rawValue)))
  }

  /// A log that begins: the first members' configuration changes, committed in term 1.
  private static func begin(
    _ disk: OSDisk, _ directory: DataDirectory, _ identity: Identity,
    _ recovered: inout Recovered
  ) throws(WALError) -> Log<OSDisk> {
    var metadata: [UInt8] = []
    WALMetadata(nodeID: identity.member.rawValue, clusterID: identity.cluster.rawValue)
      .encode(into: &metadata)
    let entries = [Entry](founding: identity.members)
    let state = HardState(
      term: Term(1), vote: .none, commit: LogIndex(UInt64(entries.count)))
    let log = try Log.create(
      disk, directory: directory.wal, metadata: metadata, entries: entries, state: state)
    recovered.metadata = metadata
    recovered.entries = entries
    recovered.hardState = state
    return log
  }

  /// A log whose cluster has moved on to a newer version is not ours to write.
  /// A cluster of one is not what is wanted then.
  private static func openStore(
    _ path: String, _ options: Options
  ) throws(StartError) -> LMDBBackend {
    do throws(BackendError) {
      return try LMDBBackend.open(path: path, syncs: options.syncsToDisk)
    } catch {
      throw StartError("the store cannot be read: \(error.text)")
    }
  }

  /// Refuses to begin a log where another one should be, or where members were to be discovered.
  private static func checkIsEmpty(
    _ directory: DataDirectory, _ options: Options
  ) throws(StartError) {
    if directory.isEtcds {
      throw StartError(
        "\(directory.bboltFile) is etcd's, and there is no log in \(directory.wal). Nothing was "
          + "changed: if the log lies elsewhere, say so [--wal-dir]; what is left of a restore "
          + "that did not come to its end is to be removed [--data-dir]")
    }
    guard let flag = options.discovery else { return }
    throw StartError(
      "members cannot be discovered by this version: name them with --initial-cluster "
        + "[--\(flag)]")
  }

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
          + "\(directory.wal) ends at \(last.rawValue): part of the log is missing. If it lies "
          + "elsewhere, say so [--wal-dir]; else remove the member, empty its directory and add "
          + "it again")
    }
    let first = snapshot?.metadata.index ?? .zero
    guard consistentIndex >= first else {
      let hint =
        FileSystem.exists(directory.bboltFile)
        ? ". If etcd has run here since, remove \(directory.store) and \(directory.formatFile): "
          + "its \(directory.bboltFile) is then taken over anew" : ""
      throw StartError(
        "the store \(directory.store) ends at entry \(consistentIndex.rawValue), the log "
          + "begins behind \(first.rawValue): the store is too old for this log. Remove the "
          + "member, empty its directory and add it again, or restore a snapshot\(hint)")
    }
  }

  static func open(
    _ opening: ReplicaOpening, _ backend: LMDBBackend, _ snapshot: Snapshot?, _ log: Logger
  ) throws(StartError) -> Replica<LMDBBackend> {
    do throws(ReplicaOpenError) {
      return try opening.open(backend, snapshot) { rows in
        log.info("reading the store", ("rows", String(rows)))
      }
    } catch {
      switch error {
      case .backend(let error):
        throw StartError("the store cannot be read: \(error.text)")
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
    let settings = ApplyThread.Settings(
      batchNanoseconds: options.batchNanoseconds,
      batchOperationsMax: options.batchOperationsMax,
      compactionKeysPerStep: options.compactionKeysPerStep,
      slowNanoseconds: options.slowApplyNanoseconds, snapshotCount: options.snapshotCount,
      publication: Member(
        id: identity.member, name: options.name, peerURLs: options.advertisePeer.map(\.text),
        clientURLs: options.advertiseClient.map(\.text), isLearner: false),
      serverVersion: ClusterVersion(Server.etcdVersion)!, startMilliseconds: startMilliseconds,
      compaction: AutoCompactor.Mode(options.compaction))
    // Taken by the thread, which would hold what its closure does for ever.
    let handed = Handover(recovered)
    recovered = Recovered()
    let raftConfig = config
    let tick = UInt64(options.heartbeatMilliseconds) * 1_000_000
    let seed = Clock.wall() ^ identity.member.rawValue
    let raftSettings = RaftThread.Settings(
      tickNanoseconds: tick, electionTicks: config.electionTicks,
      // Contexts begin with the millisecond of the start: none is ever used again, but for a
      // member that made more than a million in each.
      firstContext: startMilliseconds << 20,
      advancesFirstElection: options.initialElectionTickAdvance,
      requestNanoseconds: options.requestNanoseconds)
    Thread.detach("raft") {
      let recovered = handed.take()
      let core = Core(
        config: raftConfig, hardState: recovered.hardState,
        confState: metadata?.confState ?? ConfState(voters: []), snapshot: metadata,
        entries: recovered.entries, applied: metadata?.index ?? .zero, seed: seed)
      RaftThread(core: core, shared: shared, settings: raftSettings).run()
    }
    let handover = Handover(wal.take()!)
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
    let factor = options.defragmentFactor
    let store = Thread.start("store") {
      BackgroundThread(shared: shared, disk: disk, defragmentFactor: factor).run()
    }
    return Threads(wal: walThread, apply: apply, store: store)
  }
}

/// Carries a value to the thread that will own it.
final class Handover<Item: ~Copyable>: @unchecked Sendable {
  // Shared safely: filled before the thread starts, emptied once by it.
  private var item: Item?
  init(_ item: consuming Item) { self.item = consume item }
  func take() -> Item { item.take()! }
}
