internal import Basics
internal import LMDB
internal import MVCC
internal import Platform

/// Rewrites the store's file beside its commits, when a client asks for it or `SpacePolicy` finds
/// it worth it. The store thread's; the copying is done on a thread of its own.
struct SpaceKeeper: ~Copyable {
  private enum Limits {
    static let pieceBytes = 64 << 10
    /// After so many the disk begins to write them.
    static let dirtyBytes = 1 << 20
    /// What writers may add by the time they are caught up with; the rest is copied while commits
    /// wait.
    static let chaseBytes = 64 << 20
    /// Must stay free beside the new file, for the log.
    static let marginBytes = 64 << 20
    /// Between two looks at whether an old file is still read.
    static let oldFileNanoseconds: UInt64 = 1_000_000_000
  }

  private struct Run {
    let copy: Defragmentation
    let thread: Thread
    let isCancelled: Lock<Bool>
    let since: UInt64
    let totalBefore: Int
    /// Clients that wait for it.
    let ids: [UInt64]
  }

  private let shared: Shared
  private var policy: SpacePolicy?
  private var run: Run?
  /// Clients that wait for the next one: this one may have copied what has become free since.
  private var waiting: [UInt64] = []
  private var old: LMDBBackend.OldFile?

  init(shared: Shared, factor: Int) {
    self.shared = shared
    policy = SpacePolicy(factor: factor)
  }

  /// When `look` is to be called at the latest.
  var deadline: UInt64 {
    let next = old == nil ? .max : Clock.monotonic() + Limits.oldFileNanoseconds
    return run != nil ? next : min(next, policy?.dueAt ?? .max)
  }

  /// A client wants it.
  mutating func ask(_ id: UInt64) {
    waiting.append(id)
    if run == nil { start(isAsked: true) }
  }

  /// The sizes have changed, or `deadline` has passed.
  mutating func look(_ sizes: (total: Int, inUse: Int)) {
    if old?.isUnused() == true { old = nil }
    let now = Clock.monotonic()
    policy?.note(total: sizes.total, inUse: sizes.inUse, now: now)
    if run == nil, let policy, policy.dueAt <= now { start(isAsked: false) }
  }

  private mutating func start(isAsked: Bool) {
    let ids = waiting
    waiting = []
    let sizes = shared.backend.sizes()
    let now = Clock.monotonic()
    do throws(BackendError) {
      try checkRoom(sizes.inUse)
      let copy = try shared.backend.beginDefragmentation()
      let isCancelled = Lock(false)
      shared.log.info(
        "defragmenting the store beside its clients", ("bytes", String(sizes.total)),
        ("bytes-in-use", String(sizes.inUse)), ("reason", isAsked ? "asked for" : "automatic"))
      shared.metrics.defragmentations.set(1)
      let shared = shared
      let thread = Thread.start("defragment") {
        Thread.stepBack()
        let failure = Self.copy(copy, bytes: sizes.inUse, isCancelled, shared)
        shared.background.post(.copied(copy, failure))
      }
      run = Run(
        copy: copy, thread: thread, isCancelled: isCancelled, since: now,
        totalBefore: sizes.total, ids: ids)
    } catch {
      end(ids, since: now, error.text)
    }
  }

  private func checkRoom(_ bytes: Int) throws(BackendError) {
    let folder = shared.backend.folder
    let free: Int
    do throws(Errno) {
      free = try FileSystem.freeBytes(folder)
    } catch {
      throw .failed("\(folder): \(error)")
    }
    guard free - Limits.marginBytes < bytes else { return }
    throw .full("\(folder): \(free) bytes are free, and a new file for the store needs \(bytes)")
  }

  /// Copies some `bytes`, and what comes in meanwhile; what went wrong. On a thread that steps back
  /// behind those that serve.
  private static func copy(
    _ copy: Defragmentation, bytes inUse: Int, _ isCancelled: Lock<Bool>, _ shared: Shared
  ) -> String? {
    var dirty = 0
    var done = 0
    do {
      while done < 2 * inUse + Limits.chaseBytes,
        let bytes = try copy.step(bytesMax: Limits.pieceBytes)
      {
        dirty += bytes
        done += bytes
        if dirty >= Limits.dirtyBytes {
          try FileSystem.writeBack(copy.descriptor)
          dirty = 0
        }
        // Writers who write faster than that would never be caught up with.
        let due = done < inUse ? shared.paced(bytes) : 0
        if isCancelled.wait(until: due, { $0 }, { $0 }) { return nil }
      }
      try copy.sync()
      return nil
    } catch let error as BackendError {
      return error.text
    } catch {
      return "\(copy.path): \(error)"
    }
  }

  /// The copying has ended: the new file takes the old one's place.
  mutating func copied(_ copy: Defragmentation, _ failure: String?) {
    // A run that was cancelled is forgotten before it ends.
    guard run?.copy === copy, let run = take() else { return }
    var failure = failure
    if failure == nil {
      do throws(BackendError) {
        old = try shared.backend.finish(run.copy)
        let took = (Clock.monotonic() - run.since) / 1_000_000
        shared.log.info(
          "defragmented the store", ("took", "\(took)ms"),
          ("bytes-before", String(run.totalBefore)),
          ("bytes", String(shared.backend.sizes().total)))
      } catch {
        failure = error.text
      }
    } else {
      shared.backend.abandon(run.copy)
    }
    end(run.ids, since: run.since, failure)
    if !waiting.isEmpty { start(isAsked: true) }
  }

  /// Gives up what is under way: another store takes this one's place, or the server ends.
  mutating func cancel() {
    guard let run else { return }
    let ids = run.ids + waiting
    waiting = []
    run.isCancelled.withLock { $0 = true }
    run.isCancelled.signal()
    _ = take()
    shared.backend.abandon(run.copy)
    end(ids, since: run.since, "the store was replaced or is being closed")
  }

  /// Forgets the run, whose thread is about to end.
  private mutating func take() -> Run? {
    let taken = run
    run = nil
    taken?.thread.join()
    return taken
  }

  private mutating func end(_ ids: [UInt64], since: UInt64, _ failure: String?) {
    let now = Clock.monotonic()
    shared.metrics.defragmentations.set(0)
    shared.metrics.defragmentation.observe(nanoseconds: now - since)
    policy?.ended(took: now - since, succeeded: failure == nil, now: now)
    if let failure {
      shared.log.error("could not defragment the store", ("error", failure))
    }
    for id in ids { shared.apply.post(.defragmented(id, failure)) }
  }
}
