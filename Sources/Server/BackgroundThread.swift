internal import Basics
internal import Raft
internal import Replica
internal import Services
internal import LMDB
internal import MVCC
internal import Platform

/// Makes the store's commits and defragmentations: the only writer of the storage engine.
struct BackgroundThread: ~Copyable {
  private let shared: Shared

  init(shared: Shared) { self.shared = shared }

  consuming func run() {
    var inbox: [BackgroundInput] = []
    while true {
      shared.background.wait(until: .max, into: &inbox)
      for input in inbox {
        switch input {
        case .commit(let buffer): commit(buffer)
        case .defragment(let id): defragment(id)
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
    do throws(BackendError) {
      try shared.backend.defragment()
      noteSizes()
      shared.log.info("defragmented the store")
      shared.apply.post(.defragmented(id, nil))
    } catch {
      shared.log.error("could not defragment the store", ("error", Self.text(error)))
      shared.apply.post(.defragmented(id, Self.text(error)))
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
