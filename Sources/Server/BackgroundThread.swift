internal import Basics
internal import Raft
internal import Replica
internal import Services
internal import LMDB
internal import MVCC
internal import Platform
internal import WAL

/// Makes the store's commits and defragmentations: the only writer of the storage engine. Prepares
/// files of the log between them.
struct BackgroundThread: ~Copyable {
  private let shared: Shared
  private let disk: OSDisk

  init(shared: Shared, disk: OSDisk) {
    self.shared = shared
    self.disk = disk
  }

  consuming func run() {
    var inbox: [BackgroundInput] = []
    while true {
      shared.background.wait(until: .max, into: &inbox)
      for input in inbox {
        switch input {
        case .commit(let buffer): commit(buffer)
        case .defragment(let id): defragment(id)
        case .zero(let path, let offset): zero(path, from: offset)
        case .export(let snapshot, let members): export(snapshot, members)
        case .restore(let snapshot): restore(snapshot)
        case .stop: return
        }
      }
    }
  }

  private func commit(_ buffer: FrozenBuffer) {
    let start = Clock.monotonic()
    do throws(BackendError) {
      try shared.backend.commit(buffer.batch())
      shared.metrics.backendCommit.observe(nanoseconds: Clock.monotonic() - start)
      noteSizes()
      shared.apply.post(.stored(nil))
    } catch {
      shared.apply.post(.stored(Self.text(error)))
    }
  }

  private func defragment(_ id: UInt64) {
    let start = Clock.monotonic()
    shared.metrics.defragmentations.set(1)
    defer {
      shared.metrics.defragmentations.set(0)
      shared.metrics.defragmentation.observe(nanoseconds: Clock.monotonic() - start)
    }
    let failure = Lock<String?>(nil)
    let shared = shared
    // On a thread that steps back behind those that serve; commits wait for its end.
    Thread.start("defragment") {
      Thread.stepBack()
      do throws(BackendError) {
        try shared.backend.defragment()
      } catch {
        let text = Self.text(error)
        failure.withLock { $0 = text }
      }
    }.join()
    let text = failure.withLock { $0 }
    if let text {
      shared.log.error("could not defragment the store", ("error", text))
    } else {
      noteSizes()
      shared.log.info(
        "defragmented the store", ("took", "\((Clock.monotonic() - start) / 1_000_000)ms"))
    }
    shared.apply.post(.defragmented(id, text))
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
        shared.log.error("the store cannot be read", ("error", Self.text(error)))
        shared.raft.post(.snapshotSent(member, isDelivered: false))
      }
    }
  }

  /// Puts the store that came with a snapshot in place of this one, and the replica that it makes.
  /// Readers wait meanwhile: between the two they would see rows that the index does not know.
  private func restore(_ snapshot: Snapshot) {
    shared.storeLock.lockForWriting()
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
    shared.snapshotFiles.clean(keeping: nil)
    noteSizes()
    shared.apply.post(.restored)
  }

  private func noteSizes() {
    let sizes = shared.backend.sizes()
    shared.board.withLock { board in
      board.status.databaseBytes = sizes.total
      board.status.databaseBytesInUse = sizes.inUse
    }
  }

  static func text(_ error: BackendError) -> String {
    switch error {
    case .full(let text), .corrupt(let text), .failed(let text): text
    }
  }
}
