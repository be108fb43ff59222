internal import API
internal import Basics
internal import MVCC
internal import Membership
@_spi(Simulation) internal import Raft
internal import Replica
internal import Services
internal import WAL

/// Why a member does not start.
enum StartFailure: Error {
  /// The disk failed; it may do later.
  case disk(String)
  /// What the disk holds is not what was written.
  case damaged(String)
  /// What was durable is gone: never to happen.
  case lost(String)
}

/// What Sources/Server/Recovery.swift does.
extension Process {
  static func start(_ host: Host, _ world: Simulation) throws(StartFailure) -> Process {
    var recovered = Recovered()
    var snapshot: Snapshot?
    let wal: Log<FaultyDisk>
    do throws(WALError) {
      if (try? host.disk.list(Paths.wal)) != nil {
        wal = try open(host, &recovered, &snapshot)
      } else {
        wal = try begin(host, world, &recovered)
      }
    } catch {
      throw failure(error, host)
    }
    try check(recovered, snapshot, host)
    host.durable.recover(snapshot?.metadata, recovered.entries, recovered.hardState)
    if let repair = recovered.repair { world.note("\(host.number) repaired: \(repair)") }
    let replica = try replica(host, world, snapshot, recovered)
    return try assemble(host, world, wal, replica, snapshot, recovered)
  }

  private static func failure(_ error: WALError, _ host: Host) -> StartFailure {
    switch error {
    case .disk(let error): .disk(error.text)
    case .failed: .disk("failed")
    case .corrupt, .checksum, .incomplete, .snapshotNotFound:
      host.isDamaged ? .damaged(error.text) : .lost(error.text)
    }
  }

  private static func open(
    _ host: Host, _ recovered: inout Recovered, _ found: inout Snapshot?
  ) throws(WALError) -> Log<FaultyDisk> {
    let snapshots = SnapshotStore(host.disk, directory: Paths.snap)
    var newest: Snapshot?
    let wal = try Log.open(host.disk, directory: Paths.wal, recovered: &recovered) {
      _, markers throws(DiskError) in
      newest = try snapshots.loadNewest(among: markers) { _ in }
      return newest.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) }
        ?? .none
    }
    found = newest
    guard recovered.entries.isEmpty, newest == nil, recovered.hardState == .empty else {
      return wal
    }
    // The first start ended between making the log and writing its first entries.
    return try makeFounded(host, wal, &recovered)
  }

  private static func begin(
    _ host: Host, _ world: Simulation, _ recovered: inout Recovered
  ) throws(WALError) -> Log<FaultyDisk> {
    var metadata: [UInt8] = []
    WALMetadata(nodeID: host.id.rawValue, clusterID: world.cluster.rawValue)
      .encode(into: &metadata)
    let wal = try Log.create(host.disk, directory: Paths.wal, metadata: metadata)
    recovered.metadata = metadata
    return try makeFounded(host, wal, &recovered)
  }

  /// A log that begins: the founders' configuration changes, committed in term 1.
  private static func makeFounded(
    _ host: Host, _ wal: consuming Log<FaultyDisk>, _ recovered: inout Recovered
  ) throws(WALError) -> Log<FaultyDisk> {
    guard let founders = host.founders else { return wal }
    let entries = [Entry](
      founding: founders.map { member in
        Membership.Member(
          id: member.id, name: "", peerURLs: member.peerURLs, clientURLs: [], isLearner: false)
      })
    let state = HardState(
      term: Term(1), vote: .none, commit: LogIndex(UInt64(entries.count)))
    try wal.append(entries, state)
    try wal.sync()
    recovered.entries = entries
    recovered.hardState = state
    return wal
  }

  /// Everything that was durable must be there again.
  private static func check(
    _ recovered: Recovered, _ snapshot: Snapshot?, _ host: Host
  ) throws(StartFailure) {
    let before = host.durable
    let state = recovered.hardState
    let last = recovered.entries.last?.index ?? snapshot?.metadata.index ?? .zero
    guard
      state.term > before.hardState.term
        || state.term == before.hardState.term
          && (state.vote == before.hardState.vote || before.hardState.vote == .none)
    else { throw .lost("a start forgot its term or vote") }
    guard state.commit >= before.hardState.commit else {
      throw .lost("a start forgot what was committed")
    }
    var index = max(before.base, snapshot?.metadata.index ?? .zero) + 1
    while index <= min(before.last, last) {
      let found = recovered.entries[index - (recovered.entries.first?.index ?? index)].term
      guard let known = before.term(at: index), found >= known else {
        throw .lost("entry \(index.rawValue) is another one after a start")
      }
      // A later write, not yet acknowledged, may have replaced all from here.
      guard found == known else { return }
      index = index + 1
    }
    guard last >= before.last else {
      throw .lost("entries up to \(before.last.rawValue) were durable, found \(last.rawValue)")
    }
  }

  private static func replica(
    _ host: Host, _ world: Simulation, _ snapshot: Snapshot?, _ recovered: Recovered
  ) throws(StartFailure) -> Replica<MemoryBackend> {
    let index = snapshot?.metadata.index ?? .zero
    let last = recovered.entries.last?.index ?? index
    let replica = try opened(host, world, snapshot)
    guard replica.store.consistentIndex <= last else {
      throw .lost("the store is ahead of the log")
    }
    guard replica.store.consistentIndex < index else { return replica }
    // A snapshot was received, and the process ended before its content took its place.
    guard let backend = StoreContent.load(Paths.store(index), from: host.disk) else {
      throw host.isDamaged ? .damaged("no content") : .lost("the store is behind the log")
    }
    host.backend = backend
    return try opened(host, world, snapshot)
  }

  private static func opened(
    _ host: Host, _ world: Simulation, _ snapshot: Snapshot?
  ) throws(StartFailure) -> Replica<MemoryBackend> {
    do throws(ReplicaOpenError) {
      return try openReplica(host.backend, snapshot, host, world)
    } catch {
      throw .lost("the store cannot be opened: \(error)")
    }
  }

  private static func assemble(
    _ host: Host, _ world: Simulation, _ wal: consuming Log<FaultyDisk>,
    _ replica: consuming Replica<MemoryBackend>, _ snapshot: Snapshot?, _ recovered: Recovered
  ) throws(StartFailure) -> Process {
    let options = world.options
    let metadata = snapshot?.metadata
    var config = Raft.Config(
      id: host.id, electionTicks: options.electionTicks, heartbeatTicks: 1)
    config.preVote = options.preVote
    config.checkQuorum = options.checkQuorum
    config.messageBytesMax = options.messageBytesMax
    config.inflightCountMax = options.inflightCountMax
    config.applyingBytesMax = options.applyingBytesMax
    config.sabotage = Config.Sabotage(world.plant)
    let core = Core(
      config: config, hardState: recovered.hardState,
      confState: metadata?.confState ?? ConfState(voters: []), snapshot: metadata,
      entries: recovered.entries, applied: metadata?.index ?? .zero, seed: world.random.next())
    var status = MemberStatus(member: host.id, cluster: world.cluster)
    status.term = core.term
    status.version = "3.5.21"
    status.quotaBytes = -1
    status.now = host.local(world.now)
    status.revision = replica.store.currentRevision
    status.compactRevision = replica.store.compactRevision
    status.appliedIndex = replica.appliedIndex
    var limits = Limits()
    limits.electionTimeout = options.tick * UInt64(options.electionTicks)
    limits.watch.progressIntervalNanoseconds = options.watchProgress
    limits.watch.queuedBytesMax = options.watchQueuedBytes
    limits.watch.responseRevisionsMax = options.watchRevisions
    limits.catchUpBytesMax = options.catchUpBytes
    let services = Services<MemoryBackend>(
      status: status, limits: limits, loop: 0,
      startMilliseconds: host.local(world.now) / 1_000_000, seed: world.random.next(),
      digest: Simulation.digest)
    guard let reader = try? host.backend.makeReader() else {
      preconditionFailure("a backend in memory gives readers")
    }
    return Process(
      world: world, host: host,
      parts: Parts(
        core: core, wal: wal, replica: replica, services: services, reader: reader,
        status: status, snapshotIndex: metadata?.index ?? .zero))
  }
}
