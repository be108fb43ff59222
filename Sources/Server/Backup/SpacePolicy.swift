/// When the store's file is rewritten without being asked for: once it is larger than `factor`
/// times what is in use and some, and no more is being freed.
///
/// Each rewriting costs what is in use, and takes place only after at least as much was freed; and
/// of the time it takes at most a tenth.
struct SpacePolicy: Sendable {
  enum Limits {
    /// What a file may have beyond the factor.
    static let floorBytes = 32 << 20
    /// A compaction frees in steps: waits until it is over.
    static let settleNanoseconds: UInt64 = 2_000_000_000
    static let pauseNanoseconds: UInt64 = 60_000_000_000
    static let pauseFactor: UInt64 = 10
    /// After one that did not succeed.
    static let failurePauseNanoseconds: UInt64 = 600_000_000_000
  }

  let factor: Int
  private var inUse = 0
  private var settledAt: UInt64 = 0
  private var notBefore: UInt64 = 0
  /// When to begin; the largest number while there is no reason.
  private(set) var dueAt = UInt64.max

  /// Nil for a factor of zero, which turns it off.
  init?(factor: Int) {
    guard factor > 0 else { return nil }
    self.factor = factor
  }

  /// Takes the file's sizes after a commit.
  mutating func note(total: Int, inUse: Int, now: UInt64) {
    // Less by one part in 64 and a MiB is a compaction's doing.
    if inUse < self.inUse - total / 64 - (1 << 20) {
      self.inUse = inUse
      settledAt = now + Limits.settleNanoseconds
    } else if inUse > self.inUse {
      self.inUse = inUse
    }
    let (product, isBeyond) = inUse.multipliedReportingOverflow(by: factor)
    let isLarge = !isBeyond && total - Limits.floorBytes > product
    dueAt = isLarge ? max(settledAt, notBefore) : .max
  }

  /// One has ended, this policy's or another's.
  mutating func ended(took: UInt64, succeeded: Bool, now: UInt64) {
    let pause = max(Limits.pauseNanoseconds, took.multipliedClamped(by: Limits.pauseFactor))
    notBefore = now + (succeeded ? pause : max(pause, Limits.failurePauseNanoseconds))
    dueAt = dueAt == .max ? .max : max(dueAt, notBefore)
  }
}

extension UInt64 {
  fileprivate func multipliedClamped(by factor: UInt64) -> UInt64 {
    let (product, isBeyond) = multipliedReportingOverflow(by: factor)
    return isBeyond ? .max / 2 : product
  }
}
