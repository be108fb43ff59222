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
