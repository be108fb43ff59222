internal import Basics
internal import Raft
internal import WAL

/// What Sources/Server/WALThread.swift does, with time between the write and its sync.
extension Process {
  func turnWAL() {
    guard !isWriting, !walInbox.isEmpty else { return }
    let inbox = walInbox
    walInbox.removeAll(keepingCapacity: true)
    isWriting = true
    do throws(WALError) {
      for input in inbox {
        switch input {
        case .append(let batch):
          if let snapshot = batch.snapshot { try receive(snapshot) }
          try wal.append(batch.entries, batch.hardState)
          writing.append(batch)
        case .snapshot(let snapshot): try save(snapshot)
        }
      }
    } catch {
      fail("the log cannot be written: \(error.text)")
      return
    }
    let isSync = writing.contains(where: \.mustSync)
    let delay = isSync ? world.syncDelay(host) : world.wakeDelay()
    world.queue.add(.written(host: host.number, run: run), at: world.now + delay)
  }

  /// The sync is through.
  func written() {
    isWriting = false
    let batches = writing
    writing = []
    if batches.contains(where: \.mustSync) {
      do throws(WALError) {
        try wal.sync()
      } catch {
        if world.plant == .syncFailureIgnored { return acknowledge(batches) }
        fail("the log cannot be synced: \(error.text)")
        return
      }
      for batch in batches {
        if let snapshot = batch.snapshot?.metadata {
          host.durable.install(snapshot.index, snapshot.term)
        }
        host.durable.append(batch.entries)
        if let state = batch.hardState { host.durable.hardState = state }
      }
    }
    acknowledge(batches)
  }

  private func acknowledge(_ batches: [WALBatch]) {
    for batch in batches {
      if let snapshot = batch.snapshot { post(.install(snapshot)) }
      for message in batch.then {
        world.send(Packet(message: message, store: nil))
      }
    }
    if let mark = batches.last?.mark { post(.written(mark)) }
    if !walInbox.isEmpty { wake(.wal) }
  }

  /// A leader's snapshot: its file first, then the log's note of it. etcd: `storage.SaveSnap`.
  private func receive(_ snapshot: Snapshot) throws(WALError) {
    do throws(DiskError) { try snapshots.save(snapshot) } catch { throw .disk(error) }
    let metadata = snapshot.metadata
    try wal.save(
      SnapshotMarker(index: metadata.index, term: metadata.term), metadata.confState)
  }

  private func save(_ snapshot: Snapshot) throws(WALError) {
    try receive(snapshot)
    let index = snapshot.metadata.index
    try wal.release(upTo: index, keep: world.options.segmentsKept)
    try? snapshots.purge(keep: world.options.snapshotsKept)
    let kept = world.options.catchUpEntries
    if index.rawValue > kept { post(.compact(LogIndex(index.rawValue - kept))) }
    world.note("\(host.number) saved a snapshot at \(index.rawValue)")
  }
}
