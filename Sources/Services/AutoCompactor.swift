internal import API

/// Decides when history is compacted without being asked, and up to where. Every member keeps the
/// record, the leader alone compacts. etcd: `v3compactor`.
public struct AutoCompactor: Sendable {
  public enum Mode: Equatable, Sendable {
    /// Keeps what is younger.
    case periodic(nanoseconds: UInt64)
    /// Keeps so many revisions.
    case revision(keep: Int64)
  }

  public let mode: Mode
  /// Between two looks.
  private let interval: UInt64
  private var nextLook: UInt64
  /// Revisions of the past period, oldest first, one for each look.
  private var revisions: [Int64] = []
  private var revisionsMax = 1
  /// When history was compacted last, or the record began.
  private var compactedAt: UInt64
  private var hasWaited = false
  /// Asked for and not seen yet.
  private var pending: (revision: Int64, at: UInt64)?
  private var last: Int64 = 0

  private enum Limits {
    static let hour: UInt64 = 3_600_000_000_000
    /// Looks in one period, or in an hour when the period is longer.
    static let looks: UInt64 = 10
    static let revisionInterval: UInt64 = hour / 12
  }

  /// `now` as for `tick`.
  public init(_ mode: Mode, now: UInt64) {
    self.mode = mode
    compactedAt = now
    switch mode {
    case .periodic(let period):
      interval = max(1, min(period, Limits.hour) / Limits.looks)
      revisionsMax = Int(clamping: period / interval) + 1
      nextLook = now
    case .revision:
      interval = Limits.revisionInterval
      nextLook = now + interval
    }
  }

  /// Called often, at least ten times a period. `now` in ns of a clock that never goes back;
  /// `revision` and `compacted` are the store's. The revision to compact up to now, if any.
  public mutating func tick(
    now: UInt64, revision: Int64, compacted: Int64, isLeader: Bool
  ) -> Int64? {
    if let asked = pending, compacted >= asked.revision {
      pending = nil
      last = asked.revision
      compactedAt = asked.at
    }
    guard now >= nextLook else { return nil }
    nextLook = now + interval
    let target: Int64?
    switch mode {
    case .periodic(let period): target = look(period, now, isLeader)
    case .revision(let keep): target = isLeader ? revision - keep : nil
    }
    if case .periodic = mode {
      revisions.append(revision)
      if revisions.count > revisionsMax { revisions.removeFirst() }
    }
    guard let target, target > 0, target != last else { return nil }
    if target <= compacted {
      last = target
      compactedAt = now
      return nil
    }
    pending = (target, now)
    return target
  }

  /// The request for the log: etcdserverpb.CompactionRequest.
  public static func request(_ revision: Int64) -> [UInt8] {
    var bytes: [UInt8] = []
    CompactionRequest(revision: revision).encode(into: &bytes)
    return bytes
  }

  private mutating func look(_ period: UInt64, _ now: UInt64, _ isLeader: Bool) -> Int64? {
    // The first time after a whole period, then each hour, or each period if that is shorter.
    let wait = hasWaited ? min(period, Limits.hour) : period
    guard isLeader, let oldest = revisions.first, now - compactedAt >= wait else { return nil }
    hasWaited = true
    if oldest == last { compactedAt = now }
    return oldest
  }
}
