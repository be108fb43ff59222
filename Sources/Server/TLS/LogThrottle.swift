/// Keeps refused connections from flooding the log: in one period the same reason is told once of
/// the same other side, and so many lines are written in all. The others are counted.
struct LogThrottle {
  /// Clients are many.
  static let clients = LogThrottle(lines: 5, nanoseconds: 1_000_000_000)
  /// A member that is refused comes again and again.
  static let members = LogThrottle(lines: 10, nanoseconds: 10_000_000_000)

  private let lines: Int
  private let nanoseconds: UInt64
  private var period: UInt64 = 0
  private var told: Set<[String]> = []
  private var held = 0

  private init(lines: Int, nanoseconds: UInt64) {
    self.lines = lines
    self.nanoseconds = nanoseconds
  }

  /// `other`: an address without its port, or a URL. Nil: the line is not to be written; else how
  /// many were not since the last that was.
  mutating func admit(_ other: String, _ why: String, _ now: UInt64) -> Int? {
    if now / nanoseconds != period {
      period = now / nanoseconds
      told = []
    }
    guard told.count < lines, told.insert([other, why]).inserted else {
      held += 1
      return nil
    }
    defer { held = 0 }
    return held
  }
}
