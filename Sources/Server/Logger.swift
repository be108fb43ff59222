internal import Platform

/// Lines of JSON on standard error, written by a thread of its own: a sink that blocks makes lines
/// drop, never a server wait.
final class Logger: Sendable {
  enum Level: String, Sendable, CaseIterable {
    case debug, info, warn, error, panic, fatal
  }

  enum Limits {
    /// Lines waiting for the sink; further ones are dropped and counted.
    static let lines = 4096
  }

  private let box = Mailbox<String>(limit: Limits.lines)
  private let minimum: Int

  init(level: String) {
    minimum = Level.allCases.firstIndex { $0.rawValue == level } ?? 1
    let box = box
    _ = Thread.start("log") {
      var lines: [String] = []
      while true {
        box.wait(until: .max, into: &lines)
        for line in lines { Console.write(line, toError: true) }
      }
    }
  }

  func info(_ message: String, _ fields: (String, String)...) { log(.info, message, fields) }
  func warn(_ message: String, _ fields: (String, String)...) { log(.warn, message, fields) }
  func error(_ message: String, _ fields: (String, String)...) { log(.error, message, fields) }

  /// Writes at once and ends the process: for what must not be gone on from.
  func fatal(_ message: String, _ fields: (String, String)...) -> Never {
    var lines: [String] = []
    box.drain(into: &lines)
    for line in lines { Console.write(line, toError: true) }
    Console.write(Self.line(.fatal, message, fields), toError: true)
    Console.exit(1)
  }

  /// Writes at once and ends the process, which is as it should be.
  func end(_ message: String, _ fields: (String, String)...) -> Never {
    var lines: [String] = []
    box.drain(into: &lines)
    for line in lines { Console.write(line, toError: true) }
    Console.write(Self.line(.warn, message, fields), toError: true)
    Console.exit(0)
  }

  private func log(_ level: Level, _ message: String, _ fields: [(String, String)]) {
    guard Level.allCases.firstIndex(of: level)! >= minimum else { return }
    _ = box.offer(Self.line(level, message, fields))
  }

  private static func line(
    _ level: Level, _ message: String, _ fields: [(String, String)]
  ) -> String {
    var text = "{\"level\":\"\(level.rawValue)\",\"ts\":\"\(timestamp())\",\"caller\":\"martlet\","
    text += "\"msg\":\(quoted(message))"
    for (name, value) in fields { text += ",\(quoted(name)):\(quoted(value))" }
    return text + "}\n"
  }

  static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      case _ where scalar.value < 0x20:
        let hex = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  /// RFC 3339 with milliseconds, from the days-to-date arithmetic of the Gregorian calendar.
  private static func timestamp() -> String {
    let wall = Clock.wall()
    let seconds = Int(wall / 1_000_000_000)
    func pad(_ value: Int, _ width: Int) -> String {
      let digits = String(value)
      return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
    let days = seconds / 86400 + 719_468
    let era = days / 146_097
    let dayOfEra = days % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * dayOfYear + 2) / 153
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    let day = dayOfYear - (153 * shifted + 2) / 5 + 1
    let time = seconds % 86400
    return "\(year)-\(pad(month, 2))-\(pad(day, 2))T\(pad(time / 3600, 2)):"
      + "\(pad(time / 60 % 60, 2)):\(pad(time % 60, 2)).\(pad(Int(wall / 1_000_000 % 1000), 3))Z"
  }
}
