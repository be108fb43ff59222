internal import Glibc

/// A pthread mutex with a condition, guarding one value. Held for no I/O.
@safe public final class Lock<State>: @unchecked Sendable {
  // Shared safely: `state` is touched only between lock and unlock.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>
  private var state: State

  public init(_ state: sending State) {
    self.state = state
    unsafe mutex = .allocate(capacity: 1)
    unsafe condition = .allocate(capacity: 1)
    unsafe pthread_mutex_init(mutex, nil)
    var attributes = pthread_condattr_t()
    unsafe pthread_condattr_init(&attributes)
    unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    unsafe pthread_cond_init(condition, &attributes)
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe pthread_cond_destroy(condition)
    unsafe mutex.deallocate()
    unsafe condition.deallocate()
  }

  /// Runs `body` while nobody else has the value. `body` does no I/O and takes no other lock.
  public func withLock<Result>(_ body: (inout State) -> Result) -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    return body(&state)
  }

  /// Wakes one thread that waits.
  public func signal() { unsafe pthread_cond_signal(condition) }

  /// Holds the lock once `ready` answers true or `deadline` (monotonic ns) has passed, and
  /// runs `body`.
  public func wait<Result>(
    until deadline: UInt64, _ ready: (inout State) -> Bool, _ body: (inout State) -> Result
  ) -> Result {
    unsafe pthread_mutex_lock(mutex)
    defer { unsafe pthread_mutex_unlock(mutex) }
    var time = timespec(
      tv_sec: Int(clamping: deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
    while !ready(&state) {
      if unsafe pthread_cond_timedwait(condition, mutex, &time) == ETIMEDOUT { break }
    }
    return body(&state)
  }
}

/// A pthread reader-writer lock that prefers the writer, so that readers cannot starve it.
@safe public final class ReaderWriterLock: @unchecked Sendable {
  // Shared safely: the lock itself is what threads share, and pthread made it for that.
  private let lock: UnsafeMutablePointer<pthread_rwlock_t>

  public init() {
    unsafe lock = .allocate(capacity: 1)
    var attributes = pthread_rwlockattr_t()
    unsafe pthread_rwlockattr_init(&attributes)
    unsafe pthread_rwlockattr_setkind_np(
      &attributes, Int32(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP))
    unsafe pthread_rwlock_init(lock, &attributes)
  }

  deinit {
    unsafe pthread_rwlock_destroy(lock)
    unsafe lock.deallocate()
  }

  /// Waits for the writer, and for those who wait to write. Not to be nested.
  public func lockForReading() { unsafe pthread_rwlock_rdlock(lock) }
  /// Waits for all others.
  public func lockForWriting() { unsafe pthread_rwlock_wrlock(lock) }
  /// Gives back either kind.
  public func unlock() { unsafe pthread_rwlock_unlock(lock) }
}
