internal import Platform

/// How fast bulk work goes: snapshots and defragmentations, all together.
///
/// At full speed while nobody writes. Beside writers, whose log needs the same disk and whose
/// requests the same processors, a fixed number of bytes each second, in small pieces: a writer
/// never finds more than one piece before it.
struct Pace: Sendable {
  enum Limits {
    static let bytesPerSecond: UInt64 = 32 << 20
    /// After so long without an applied entry nobody writes.
    static let quietNanoseconds: UInt64 = 200_000_000
  }

  private var due: UInt64 = 0
  private var applied = 0
  private var quietAt: UInt64 = 0

  /// When the next piece may follow one of `bytes`. `applied`: entries so far.
  mutating func next(after bytes: Int, applied: Int, now: UInt64) -> UInt64 {
    if applied != self.applied {
      self.applied = applied
      quietAt = now + Limits.quietNanoseconds
    }
    guard now < quietAt else {
      due = now
      return now
    }
    let took = UInt64(clamping: bytes) * 1_000_000_000 / Limits.bytesPerSecond
    due = max(due, now) + took
    return due
  }
}

extension Shared {
  func paced(_ bytes: Int) -> UInt64 {
    let applied = metrics.proposalsApplied.value
    return pace.withLock { $0.next(after: bytes, applied: applied, now: Clock.monotonic()) }
  }
}
