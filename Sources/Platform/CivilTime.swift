internal import Glibc

/// A point in time as a calendar and a clock on the wall show it.
public struct CivilTime: Sendable {
  private let parts: (Int32, Int32, Int32, Int32, Int32, Int32)
  private let nanosecond: Int

  /// `wall`: nanoseconds since 1970. In UTC, or where the system says that this is.
  public init(_ wall: UInt64, isLocal: Bool = false) {
    var seconds = time_t(clamping: wall / 1_000_000_000)
    var found = unsafe tm()
    _ = unsafe isLocal ? localtime_r(&seconds, &found) : gmtime_r(&seconds, &found)
    parts = unsafe (
      found.tm_year + 1900, found.tm_mon + 1, found.tm_mday, found.tm_hour, found.tm_min,
      found.tm_sec
    )
    nanosecond = Int(wall % 1_000_000_000)
  }

  /// `2006-01-02T15:04:05.000000`, with `separator` between hours, minutes and seconds and so many
  /// `decimals` of a second.
  public func text(_ separator: String = ":", decimals: Int) -> String {
    var fraction = Self.padded(nanosecond, 9)
    fraction.removeLast(9 - decimals)
    let day = [parts.0, parts.1, parts.2].map { Self.padded(Int($0), 2) }.joined(separator: "-")
    let time = [parts.3, parts.4, parts.5].map { Self.padded(Int($0), 2) }
    return "\(day)T\(time.joined(separator: separator)).\(fraction)"
  }

  private static func padded(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
