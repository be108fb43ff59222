internal import Basics
internal import Lease
internal import MVCC
internal import Membership
internal import Raft
internal import Replica
internal import WAL

/// Commits of the store, and snapshots of both kinds.
extension Process {
  func commitIfDue(_ now: UInt64) {
    snapshotIfDue(now)
    guard !replica.store.isCommitting, let since = apply.dirtySince,
      now >= since + world.options.batchDelay || apply.pendingSnapshot != nil
        || !apply.snapshotsWanted.isEmpty
        || replica.store.bufferedOperations >= world.options.batchOperationsMax
    else { return }
    committing = replica.store.freeze()
    apply.dirtySince = nil
    let isWanted = apply.pendingSnapshot != nil || !apply.snapshotsWanted.isEmpty
    apply.frozen = nil
    if isWanted {
      let pending = apply.pendingSnapshot
      let isOfNow = pending?.metadata.index == replica.appliedIndex
      apply.frozen = isOfNow ? pending : snapshotHere()
    }
    wake(.store)
  }

  private func snapshotHere() -> Snapshot {
    let isStale = world.plant == .configurationLostInSnapshot
    defer { apply.configuration = replica.configuration }
    return Snapshot(
      metadata: SnapshotMetadata(
        confState: isStale ? apply.configuration ?? replica.configuration : replica.configuration,
        index: replica.appliedIndex, term: replica.appliedTerm),
      data: replica.cluster.tree.snapshot)
  }

  private func snapshotIfDue(_ now: UInt64) {
    let applied = replica.appliedIndex
    if !apply.snapshotsWanted.isEmpty, apply.dirtySince == nil { apply.dirtySince = now }
    guard apply.pendingSnapshot == nil, !replica.store.isCommitting,
      applied.rawValue > apply.snapshotIndex.rawValue + world.options.snapshotCount
    else { return }
    apply.snapshotIndex = applied
    apply.pendingSnapshot = snapshotHere()
    if apply.dirtySince == nil { apply.dirtySince = now }
  }

  /// What Sources/Server/BackgroundThread.swift does; the commit takes its time.
  func turnStore() {
    guard committing != nil else { return }
    world.queue.add(
      .committed(host: host.number, run: run), at: world.now + world.syncDelay(host) * 2)
  }

  /// The commit under way is through.
  func committed() {
    commitToBackend()
    guard host.process === self else { return }
    post(.stored)
  }

  /// Also called when the power goes: a commit under way may still have made it.
  func commitToBackend() {
    guard let buffer = committing else { return }
    committing = nil
    let batch = buffer.batch()
    do throws(BackendError) {
      guard batch.arena.count <= host.storeRoom else { throw .full("no space left on device") }
      if host.storeRoom < .max { host.storeRoom -= batch.arena.count }
      if world.plant == .consistentIndexApart {
        try commitApart(batch)
      } else {
        try host.backend.commit(batch)
      }
    } catch {
      fail("the store cannot be committed: \(error)")
    }
  }

  /// The planted bug: the index of the last entry is committed by itself, one commit late.
  private func commitApart(_ batch: WriteBatch) throws(BackendError) {
    var rows = WriteBatch()
    var index = WriteBatch()
    for change in batch.changes {
      let key = batch.arena.rawSpan.extracting(change.key)
      guard let value = change.value else {
        rows.remove(change.bucket, key)
        continue
      }
      let bytes = batch.arena.rawSpan.extracting(value)
      if change.bucket == .meta {
        index.put(.meta, key, bytes)
      } else {
        rows.put(change.bucket, key, bytes)
      }
    }
    if let late = apply.lateIndex { try host.backend.commit(late) }
    try host.backend.commit(rows)
    apply.lateIndex = index
  }

  func stored() {
    replica.store.dropFrozen()
    guard let frozen = apply.frozen else {
      if !apply.snapshotsWanted.isEmpty, apply.dirtySince == nil { apply.dirtySince = now }
      return
    }
    apply.frozen = nil
    if let snapshot = apply.pendingSnapshot, frozen.metadata.index >= snapshot.metadata.index {
      apply.pendingSnapshot = nil
      post(.snapshot(snapshot))
    }
    guard !apply.snapshotsWanted.isEmpty else { return }
    let targets = apply.snapshotsWanted
    apply.snapshotsWanted = []
    post(.snapshot(frozen, store: StoreContent.bytes(of: host.backend), for: targets))
  }

  // MARK: A snapshot from the leader

  /// Puts the content that came with a snapshot in place of the store. etcd: `applySnapshot`.
  func install(_ snapshot: Snapshot) {
    let index = snapshot.metadata.index
    guard index > replica.appliedIndex else { return }
    guard let backend = StoreContent.load(Paths.store(index), from: host.disk) else {
      return fail("the content of a snapshot cannot be read")
    }
    do throws(ReplicaOpenError) {
      replica = try Self.openReplica(backend, snapshot, host, world)
      reader = try Self.reader(of: backend)
    } catch {
      return fail("the content of a snapshot cannot be opened: \(error)")
    }
    host.backend = backend
    StoreContent.removeAll(upTo: index, from: host.disk)
    apply.pendingSnapshot = nil
    apply.frozen = nil
    apply.dirtySince = nil
    apply.snapshotIndex = index
    outcome.removeAll()
    world.note("\(host.number) installed a snapshot at \(index.rawValue)")
    world.checks.installed(snapshot.metadata, on: self)
    updateStatus()
    post(.applied(index))
    guard world.plant != .watchersNotToldOfSnapshot else { return }
    post(
      .replaced(
        revision: replica.store.currentRevision, compactRevision: replica.store.compactRevision))
  }

  static func reader(of backend: MemoryBackend) throws(ReplicaOpenError) -> MemoryBackend.Reader {
    do { return try backend.makeReader() } catch { throw .backend(error) }
  }

  static func openReplica(
    _ backend: MemoryBackend, _ snapshot: Snapshot?, _ host: Host, _ world: Simulation
  ) throws(ReplicaOpenError) -> Replica<MemoryBackend> {
    let options = world.options
    let election = options.tick * UInt64(options.electionTicks)
    return try Replica.open(
      backend: backend, snapshot: snapshot,
      lessor: LessorConfig(
        ttlMin: Int64((3 * election / 2 + 999_999_999) / 1_000_000_000),
        revocationsPerSecond: 1000, checkpointInterval: options.leaseCheckpoint),
      config: ReplicaConfig(
        member: host.id, cluster: world.cluster, quotaBytes: -1, electionTimeout: election,
        startMilliseconds: host.local(world.now) / 1_000_000, revocationsMax: 500,
        strictReconfiguration: true)
    ) { _ in }
  }
}

/// All rows of a backend as one file, with a checksum: what etcd sends as `snap.db`.
enum StoreContent {
  static func bytes(of backend: MemoryBackend) -> [UInt8] {
    var bytes: [UInt8] = []
    guard let reader = try? backend.makeReader(), (try? reader.renew()) != nil else { return [] }
    for bucket in Bucket.allCases {
      try? reader.scan(bucket, from: RawSpan(), to: RawSpan()) { key, value in
        bytes.append(bucket.rawValue)
        append(key, to: &bytes)
        append(value, to: &bytes)
        return true
      }
    }
    append(UInt32(crc32c(bytes)), to: &bytes)
    return bytes
  }

  private static func append(_ number: UInt32, to bytes: inout [UInt8]) {
    for shift in stride(from: 0, to: 32, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: number >> UInt32(shift)))
    }
  }

  private static func append(_ span: RawSpan, to bytes: inout [UInt8]) {
    append(UInt32(span.byteCount), to: &bytes)
    bytes.append(contentsOf: span)
  }

  private static func number(_ bytes: [UInt8], _ at: inout Int) -> Int {
    defer { at += 4 }
    return (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) }
  }

  /// A backend with the rows; nil when the file is not whole.
  static func load(_ path: String, from disk: FaultyDisk) -> MemoryBackend? {
    guard let bytes = try? read(path, disk), bytes.count >= 4 else { return nil }
    let end = bytes.count - 4
    var at = end
    let backend = MemoryBackend()
    guard number(bytes, &at) == Int(crc32c(bytes.rawSpan.extracting(0..<end))) else { return nil }
    var batch = WriteBatch()
    at = 0
    while at < end {
      guard let bucket = Bucket(rawValue: bytes[at]) else { return nil }
      at += 1
      let key = number(bytes, &at)
      at += key
      let value = number(bytes, &at)
      at += value
      batch.put(
        bucket, bytes.rawSpan.extracting(at - value - 4 - key..<at - value - 4),
        bytes.rawSpan.extracting(at - value..<at))
    }
    return (try? backend.commit(batch)) == nil ? nil : backend
  }

  private static func read(_ path: String, _ disk: FaultyDisk) throws(DiskError) -> [UInt8] {
    let file = try disk.open(path, creates: false)
    defer { disk.close(file) }
    return try disk.read(file, at: 0, count: try disk.size(file))
  }

  /// Keeps received content for when the snapshot that it belongs to is applied.
  static func save(_ bytes: [UInt8], _ path: String, to disk: FaultyDisk) throws(DiskError) {
    let file = try disk.open(path, creates: true)
    defer { disk.close(file) }
    try disk.write(file, at: 0, bytes.rawSpan)
    try disk.sync(file)
    try disk.syncDirectory(Paths.snap)
  }

  static func removeAll(upTo index: LogIndex, from disk: FaultyDisk) {
    guard let names = try? disk.list(Paths.snap) else { return }
    for name in names where name.hasSuffix(".db") {
      guard let number = UInt64(name.dropLast(3)), number <= index.rawValue else { continue }
      try? disk.remove("\(Paths.snap)/\(name)")
    }
  }
}
