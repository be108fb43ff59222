internal import Basics
internal import Platform
internal import Raft
internal import WAL

/// Owns the log: one write and one sync for all that waits. What it has not reported written is
/// not acknowledged. A failure ends the process, since what the disk then holds is unknown.
struct WALThread: ~Copyable {
  /// A sync that takes longer is told. etcd: `warnSyncDuration`.
  private static let slowNanoseconds: UInt64 = 1_000_000_000

  private var wal: Log<OSDisk>
  private let snapshots: SnapshotStore<OSDisk>
  private let shared: Shared
  private let walFilesMax: Int
  private let snapshotFilesMax: Int
  private let catchUpEntries: UInt64

  init(
    wal: consuming Log<OSDisk>, snapshots: SnapshotStore<OSDisk>, shared: Shared,
    walFilesMax: Int, snapshotFilesMax: Int, catchUpEntries: UInt64
  ) {
    self.wal = wal
    self.snapshots = snapshots
    self.shared = shared
    self.walFilesMax = walFilesMax
    self.snapshotFilesMax = snapshotFilesMax
    self.catchUpEntries = catchUpEntries
  }

  consuming func run() {
    var inbox: [WALInput] = []
    while true {
      shared.wal.wait(until: .max, into: &inbox)
      do throws(WALError) {
        if try handle(inbox) { return }
      } catch {
        shared.log.fatal(
          "the log could not be written; the process ends so that nothing is acknowledged that "
            + "is not durable", ("error", error.text))
      }
    }
  }

  /// True at the end.
  private mutating func handle(_ inbox: [WALInput]) throws(WALError) -> Bool {
    var mark: WriteMark?
    var mustSync = false
    var ends = false
    for input in inbox {
      switch input {
      case .append(let received, let entries, let hardState, let needsSync, let newest):
        if let received { try take(received) }
        let start = Clock.monotonic()
        try wal.append(entries, hardState)
        shared.metrics.walWrite.observe(nanoseconds: Clock.monotonic() - start)
        if needsSync { mustSync = true }
        mark = newest
      case .snapshot(let snapshot): try save(snapshot)
      case .madeSpare(let isWhole): wal.madeSpare(isWhole)
      case .stop: ends = true
      }
    }
    if !mustSync, mark != nil {
      // The commit index alone: not needed, but what is known of it spares questions at a start.
      try wal.write()
    }
    if mustSync {
      let start = Clock.monotonic()
      try wal.sync()
      let took = Clock.monotonic() - start
      shared.metrics.walSync.observe(nanoseconds: took)
      if took > Self.slowNanoseconds {
        shared.log.warn(
          "slow fdatasync", ("took", Logger.milliseconds(took)),
          ("expected-duration", Logger.milliseconds(Self.slowNanoseconds)))
      }
    }
    shared.metrics.walBytes.set(wal.bytesWritten)
    if let mark { shared.raft.post(.written(mark)) }
    return ends
  }

  /// A snapshot from the leader: what the log has is behind it.
  private mutating func take(_ snapshot: Snapshot) throws(WALError) {
    let metadata = snapshot.metadata
    do throws(DiskError) { try snapshots.save(snapshot) } catch { throw .disk(error) }
    try wal.save(
      SnapshotMarker(index: metadata.index, term: metadata.term), metadata.confState)
    shared.log.info(
      "the log takes a snapshot from the leader", ("index", String(metadata.index.rawValue)))
  }

  private mutating func save(_ snapshot: Snapshot) throws(WALError) {
    let metadata = snapshot.metadata
    let start = Clock.monotonic()
    do throws(DiskError) {
      try snapshots.save(snapshot)
      shared.metrics.snapshotSave.observe(nanoseconds: Clock.monotonic() - start)
    } catch {
      throw .disk(error)
    }
    try wal.save(
      SnapshotMarker(index: metadata.index, term: metadata.term), metadata.confState)
    let spare = try wal.release(
      upTo: metadata.index, keep: walFilesMax > 0 ? walFilesMax : Int.max)
    if let spare { shared.background.post(.zero(spare, from: 0)) }
    if snapshotFilesMax > 0 { try? snapshots.purge(keep: snapshotFilesMax) }
    let index = metadata.index.rawValue
    if index > catchUpEntries {
      shared.raft.post(.compact(LogIndex(index - catchUpEntries)))
    }
    shared.log.info("saved a snapshot", ("index", String(index)))
  }
}
