/// When a broken stream is dialled again: soon at first, then ever more rarely, in nanoseconds.
public struct Redial: Sendable {
  private var wait = PeerLimits.redialMin
  /// Not before this.
  public private(set) var at: UInt64 = 0

  public init() {}

  /// Nothing came of dialling at `now`: the next wait is twice as long.
  public mutating func failed(_ now: UInt64) {
    at = now &+ wait
    wait = min(2 * wait, PeerLimits.redialMax)
  }

  /// The stream brought something: the next failure is a first one.
  public mutating func succeeded() { wait = PeerLimits.redialMin }

  /// The member is known to be there: no use in waiting. Not more often than etcd dials.
  public mutating func hurry(_ now: UInt64) {
    at = min(at, now &+ PeerLimits.redialMin)
    wait = PeerLimits.redialMin
  }
}

/// Since when a member has been reachable. etcd: `peerStatus`.
public struct Activity: Sendable {
  /// Nil while it is not.
  public private(set) var since: UInt64?

  public init() {}

  /// True when that is news.
  public mutating func activate(_ now: UInt64) -> Bool {
    guard since == nil else { return false }
    since = now
    return true
  }

  /// True when that is news.
  public mutating func deactivate() -> Bool {
    defer { since = nil }
    return since != nil
  }
}

/// Round trips to a member and how far apart the clocks are. etcd: github.com/xiang90/probing.
public struct Probe: Sendable {
  /// Smoothed, in nanoseconds; nil before the first answer.
  public private(set) var roundTrip: UInt64?
  /// Ours minus theirs, as the last answer showed it.
  public private(set) var clockDifference: Int64 = 0
  public private(set) var isHealthy = false
  public private(set) var nextAt: UInt64 = 0

  public init() {}

  /// Notes that a probe goes out.
  public mutating func sent(_ now: UInt64) { nextAt = now &+ PeerLimits.probeInterval }

  /// No answer came.
  public mutating func failed() { isHealthy = false }

  /// Takes an answer `{"OK":true,"Now":"2006-01-02T15:04:05.999999999Z"}` that took
  /// `roundTrip`; `wall` is our clock when it came. False when it is none.
  public mutating func answered(_ body: [UInt8], roundTrip took: UInt64, wall: UInt64) -> Bool {
    let text = String(decoding: body.prefix(256), as: UTF8.self)
    guard text.contains("\"OK\":true"), let start = text.firstRange(of: "\"Now\":\"") else {
      isHealthy = false
      return false
    }
    let rest = text[start.upperBound...]
    guard let theirs = Timestamp.nanoseconds(rest.prefix { $0 != "\"" }) else {
      isHealthy = false
      return false
    }
    isHealthy = true
    roundTrip = roundTrip.map { $0 - $0 / 8 + took / 8 } ?? took
    let ours = Int64(clamping: wall &- min(wall, took / 2))
    clockDifference = ours.subtractingReportingOverflow(theirs).partialValue
    return true
  }

  public var isDrifting: Bool { clockDifference.magnitude > UInt64(PeerLimits.clockDriftMax) }

  /// The answer to a probe of another member at the time `wall`.
  public static func answer(wall: UInt64) -> [UInt8] {
    Array("{\"OK\":true,\"Now\":\"\(Timestamp.text(wall))\"}\n".utf8)
  }
}

/// RFC 3339 times as Go writes them.
enum Timestamp {
  /// Of nanoseconds since 1970, in UTC.
  static func text(_ wall: UInt64) -> String {
    let seconds = Int64(wall / 1_000_000_000)
    let days = seconds / 86400 + 719_468
    let era = days / 146_097
    let dayOfEra = days % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let time = seconds % 86400
    let date = "\(pad(year, 4))-\(pad(month, 2))-\(pad(dayOfYear - (153 * shifted + 2) / 5 + 1, 2))"
    let clock = "\(pad(time / 3600, 2)):\(pad(time / 60 % 60, 2)):\(pad(time % 60, 2))"
    return "\(date)T\(clock).\(pad(Int64(wall % 1_000_000_000), 9))Z"
  }

  private static func pad(_ value: Int64, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }

  /// Nanoseconds since 1970; nil for what is no time of the years 1970 to 2262.
  static func nanoseconds(_ text: some StringProtocol) -> Int64? {
    let bytes = Array(text.utf8)
    func number(_ range: Range<Int>) -> Int64? {
      guard range.upperBound <= bytes.count else { return nil }
      var value: Int64 = 0
      for byte in bytes[range] {
        guard byte >= 0x30, byte <= 0x39 else { return nil }
        value = value * 10 + Int64(byte - 0x30)
      }
      return value
    }
    guard let year = number(0..<4), let month = number(5..<7), let day = number(8..<10),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19),
      (1970..<2262).contains(year), (1...12).contains(month), (1...31).contains(day)
    else { return nil }
    var at = 19
    var fraction: Int64 = 0
    if at < bytes.count, bytes[at] == 0x2e {
      let digits = bytes[(at + 1)...].prefix { $0 >= 0x30 && $0 <= 0x39 }
      guard digits.count <= 9, !digits.isEmpty else { return nil }
      for place in 0..<9 {
        let digit = place < digits.count ? Int64(digits[digits.startIndex + place] - 0x30) : 0
        fraction = fraction * 10 + digit
      }
      at = digits.endIndex
    }
    var offset: Int64 = 0
    guard at < bytes.count else { return nil }
    if bytes[at] == 0x2b || bytes[at] == 0x2d {
      guard let hours = number(at + 1..<at + 3), let minutes = number(at + 4..<at + 6) else {
        return nil
      }
      offset = (hours * 60 + minutes) * 60 * (bytes[at] == 0x2b ? 1 : -1)
    } else if bytes[at] != 0x5a {
      return nil
    }
    let shiftedYear = month <= 2 ? year - 1 : year
    let era = shiftedYear / 400
    let yearOfEra = shiftedYear - era * 400
    let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
    let days = era * 146_097 + dayOfEra - 719_468
    return (days * 86400 + hour * 3600 + minute * 60 + second - offset) * 1_000_000_000 + fraction
  }
}
