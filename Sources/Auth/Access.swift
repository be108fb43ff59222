internal import Basics

/// What one user may read and write: the ranges of all roles, overlapping and touching ones
/// merged. etcd: `unifiedRangePermissions`.
struct Access: Equatable, Sendable {
  /// From `start` up to, without, `end`; nil: without an end.
  struct Interval: Equatable, Sendable {
    var start: [UInt8]
    var end: [UInt8]?
  }

  /// Sorted; no two overlap or touch.
  let reads: [Interval]
  let writes: [Interval]

  init(_ permissions: [Permission]) {
    reads = Access.merged(permissions.filter(\.kind.allowsReads).map(\.range))
    writes = Access.merged(permissions.filter(\.kind.allowsWrites).map(\.range))
  }

  /// Whether one interval holds all of `range`.
  static func covers(_ intervals: [Interval], _ range: KeyRange) -> Bool {
    // The last interval that starts at or before the key is the only one that can.
    let after = AuthStore.position(of: range.key + [0], in: intervals, \.start)
    guard after > 0 else { return false }
    guard let end = intervals[after - 1].end else { return true }
    if range.isOpenEnded { return false }
    if range.end.isEmpty { return range.key.lexicographicallyPrecedes(end) }
    return range.key.lexicographicallyPrecedes(end) && !end.lexicographicallyPrecedes(range.end)
  }

  private static func interval(_ range: KeyRange) -> Interval? {
    if range.isOpenEnded { return Interval(start: range.key, end: nil) }
    if range.end.isEmpty { return Interval(start: range.key, end: range.key + [0]) }
    guard range.key.lexicographicallyPrecedes(range.end) else { return nil }
    return Interval(start: range.key, end: range.end)
  }

  private static func merged(_ ranges: [KeyRange]) -> [Interval] {
    let sorted = ranges.compactMap(interval).sorted {
      $0.start.lexicographicallyPrecedes($1.start)
    }
    var merged: [Interval] = []
    for next in sorted {
      guard let last = merged.last, touches(last, next) else {
        merged.append(next)
        continue
      }
      merged[merged.count - 1].end = later(last.end, next.end)
    }
    return merged
  }

  private static func touches(_ a: Interval, _ b: Interval) -> Bool {
    guard let end = a.end else { return true }
    return !end.lexicographicallyPrecedes(b.start)
  }

  private static func later(_ a: [UInt8]?, _ b: [UInt8]?) -> [UInt8]? {
    guard let a, let b else { return nil }
    return a.lexicographicallyPrecedes(b) ? b : a
  }
}
