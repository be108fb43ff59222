internal import Basics
internal import LMDB
internal import MVCC
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import WAL

/// Makes the store's commits and defragmentations: the only writer of the storage engine. Prepares
/// files of the log between them.
struct BackgroundThread: ~Copyable {
  private let shared: Shared
  private let disk: OSDisk
  private var space: SpaceKeeper
  /// The most that the log in memory gave up at once since its memory was last given back.
  private var freedBytesMax = 0

  enum Limits {
    /// What the allocator may keep for a log that was larger before.
    static let freedBytes = 64 << 20
  }

  /// `defragmentFactor`: as `SpacePolicy`'s, with zero only when asked for.
  init(shared: Shared, disk: OSDisk, defragmentFactor: Int) {
    self.shared = shared
    self.disk = disk
    space = SpaceKeeper(shared: shared, factor: defragmentFactor)
  }

  consuming func run() {
    var inbox: [BackgroundInput] = []
    while true {
      shared.background.wait(until: space.deadline, into: &inbox)
      if inbox.isEmpty { space.look(shared.backend.sizes()) }
      for input in inbox {
        switch input {
        case .commit(let buffer): commit(buffer)
        case .defragment(let id): space.ask(id)
        case .copied(let copy, let failure):
          space.copied(copy, failure)
          noteSizes()
        case .zero(let path, let offset): zero(path, from: offset)
        case .export(let snapshot, let members): export(snapshot, members)
        case .restore(let snapshot):
          space.cancel()
          restore(snapshot)
        case .freed(let bytes): trim(bytes)
        case .stop:
          space.cancel()
          return
        }
      }
    }
  }

  /// Gives memory back when a log of large entries has become one of small ones; while it goes up
  /// and down its memory is used again, and faulting it in would cost more than it is worth.
  private mutating func trim(_ bytes: Int) {
    guard bytes < freedBytesMax / 4 else {
      freedBytesMax = max(freedBytesMax, bytes)
      return
    }
    if freedBytesMax >= Limits.freedBytes { Machine.trimMemory() }
    freedBytesMax = bytes
  }

  private mutating func commit(_ buffer: FrozenBuffer) {
    let start = Clock.monotonic()
    do throws(BackendError) {
      try shared.backend.commit(buffer.batch())
      shared.metrics.backendCommit.observe(nanoseconds: Clock.monotonic() - start)
      noteSizes()
      shared.apply.post(.stored(nil))
    } catch {
      shared.apply.post(.stored(error.text))
    }
  }

  /// In steps, each behind what else has come in.
  private func zero(_ path: String, from offset: Int) {
    do throws(DiskError) {
      let next = try Log.zeroStep(
        disk, path, from: offset, segmentBytes: Log<OSDisk>.Limits.segmentBytes)
      if let next {
        shared.background.post(.zero(path, from: next))
      } else {
        shared.wal.post(.madeSpare(true))
      }
    } catch {
      shared.log.warn("could not prepare a segment of the log", ("error", error.text))
      shared.wal.post(.madeSpare(false))
    }
  }

  /// Pins the store as it is for each member that the snapshot is for.
  private func export(_ snapshot: Snapshot, _ members: [NodeID]) {
    for member in members {
      do throws(BackendError) {
        let reader = try shared.backend.makeReader()
        try reader.renew()
        shared.peers.box.post(.export(SnapshotSource(reader), member))
        shared.raft.post(.snapshot(snapshot, to: member))
      } catch {
        shared.log.error("the store cannot be read", ("error", error.text))
        shared.raft.post(.snapshotSent(member, isDelivered: false))
      }
    }
  }

  /// Puts the store that came with a snapshot in place of this one, and the replica that it makes.
  /// Readers wait meanwhile: between the two they would see rows that the index does not know.
  private mutating func restore(_ snapshot: Snapshot) {
    shared.storeLock.lockForWriting()
    let unanswered = shared.replica.abandonLongWork()
    do throws(ReplicaOpenError) {
      do throws(BackendError) {
        try shared.backend.replace(with: shared.snapshotFiles.store(snapshot.metadata.index))
      } catch {
        throw .backend(error)
      }
      shared.replica = try shared.opening.open(shared.backend, snapshot)
    } catch {
      shared.log.fatal(
        "the store of a received snapshot cannot be used; the process ends and tries again at "
          + "the next start", ("error", "\(error)"))
    }
    shared.storeLock.unlock()
    shared.snapshotFiles.clean(upTo: snapshot.metadata.index)
    noteSizes()
    shared.apply.post(.restored(unanswered: unanswered))
  }

  private mutating func noteSizes() {
    let sizes = shared.backend.sizes()
    space.look(sizes)
    shared.board.withLock { board in
      board.status.databaseBytes = sizes.total
      board.status.databaseBytesInUse = sizes.inUse
    }
  }
}
