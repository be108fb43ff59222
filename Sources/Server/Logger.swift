internal import Basics
internal import Config
internal import GRPC
internal import Platform

/// The log: one line for each thing worth telling, in each of the places it goes to. None of them
/// ever makes a server wait.
final class Logger: Sendable {
  enum Level: String, Sendable, CaseIterable {
    case debug, info, warn, error, panic, fatal

    /// syslog's number.
    var priority: UInt8 {
      switch self {
      case .debug: 7
      case .info: 6
      case .warn: 4
      case .error: 3
      case .panic, .fatal: 2
      }
    }
  }

  enum Limits {
    /// A line is cut behind so many bytes of a field.
    static let fieldBytes = 8 << 10
    /// How long the end of the process waits for a place that takes nothing.
    static let farewellNanoseconds: UInt64 = 1_000_000_000
  }

  private let sinks: [LogSink]
  private let minimum: Int
  private let format: LogOptions.Format
  private let sampler = Lock(LogSampler())
  /// Whether somebody who reads standard error reads the log.
  let isOnStandardError: Bool

  /// Opens all that the log goes to.
  init(_ options: LogOptions) throws(StartError) {
    minimum = Level.allCases.firstIndex { $0.rawValue == options.level } ?? 1
    format = options.format
    isOnStandardError = options.outputs.contains(.standardError)
    let format = format
    var sinks: [LogSink] = []
    for output in options.outputs {
      sinks.append(
        LogSink(
          try Self.target(output, options.rotation),
          lossText: { count in
            Self.line(
              .warn, format, "log lines were dropped, since they were not taken in time",
              [("lines", String(count))])
          }, pack: packFile))
    }
    self.sinks = sinks
  }

  private static func target(
    _ output: LogOptions.Output, _ rotation: LogOptions.Rotation?
  ) throws(StartError) -> LogSink.Target {
    switch output {
    case .standardError: return .descriptor(2)
    case .standardOutput: return .descriptor(1)
    case .journal:
      let program = Process.arguments.first ?? ""
      let name = program.split(separator: "/").last.map(String.init) ?? "martlet"
      do throws(Errno) {
        return .journal(try Journal(program: name))
      } catch {
        throw StartError(
          "cannot write the log: dial \(Journal.standardPath): \(error) [--log-outputs]")
      }
    case .file(let path):
      do throws(Errno) {
        return .file(try RotatingFile.open(path, rotation.map(RotatingFile.Policy.init)))
      } catch {
        throw StartError("cannot write the log: open \(path): \(error) [--log-outputs]")
      }
    }
  }

  func info(_ message: String, _ fields: (String, String)...) { log(.info, message, fields) }
  func warn(_ message: String, _ fields: (String, String)...) { log(.warn, message, fields) }
  func error(_ message: String, _ fields: (String, String)...) { log(.error, message, fields) }

  /// Ends the process with a last line: for what must not be gone on from.
  func fatal(_ message: String, _ fields: (String, String)...) -> Never {
    send(Self.line(.fatal, format, message, fields))
    flush()
    Console.exit(1)
  }

  /// Ends the process with a last line, which is as it should be.
  func end(_ message: String, _ fields: (String, String)...) -> Never {
    send(Self.line(.warn, format, message, fields))
    flush()
    Console.exit(0)
  }

  /// Waits for what was logged to be written, but not for a place that takes nothing.
  func flush() {
    let deadline = Clock.monotonic() + Limits.farewellNanoseconds
    for sink in sinks { sink.flush(until: deadline) }
  }

  /// Lines that a place did not take.
  var dropped: Int { sinks.reduce(0) { $0 + $1.dropped } }

  private func log(_ level: Level, _ message: String, _ fields: [(String, String)]) {
    guard Level.allCases.firstIndex(of: level)! >= minimum else { return }
    let second = Clock.monotonic() / 1_000_000_000
    guard sampler.withLock({ $0.admits(message, second) }) else { return }
    send(Self.line(level, format, message, fields))
  }

  private func send(_ line: LogSink.Line) { for sink in sinks { sink.offer(line) } }

  // MARK: Lines

  private static func line(
    _ level: Level, _ format: LogOptions.Format, _ message: String, _ fields: [(String, String)]
  ) -> LogSink.Line {
    let time = CivilTime(Clock.wall()).text(decimals: 6) + "Z"
    let fields = fields.map { (quoted($0.0), quoted(cut($0.1))) }
    var text: String
    switch format {
    case .json:
      text = "{\"level\":\"\(level.rawValue)\",\"ts\":\"\(time)\",\"caller\":\"martlet\","
      text += "\"msg\":\(quoted(cut(message)))"
      for (name, value) in fields { text += ",\(name):\(value)" }
      text += "}\n"
    case .console:
      // As zap's console encoder: columns, and what else there is as JSON with spaces.
      text = "\(time)\t\(level.rawValue)\tmartlet\t\(cut(message))"
      if !fields.isEmpty {
        text += "\t{" + fields.map { "\($0): \($1)" }.joined(separator: ", ") + "}"
      }
      text += "\n"
    }
    return LogSink.Line(priority: level.priority, bytes: Array(text.utf8))
  }

  /// A time in nanoseconds, as Go writes one of milliseconds.
  static func milliseconds(_ nanoseconds: UInt64) -> String {
    let micros = String(nanoseconds / 1000 % 1000)
    let zeros = String(repeating: "0", count: 3 - micros.count)
    return "\(nanoseconds / 1_000_000).\(zeros)\(micros)ms"
  }

  private static func cut(_ text: String) -> String {
    text.utf8.count <= Limits.fieldBytes
      ? text : String(decoding: text.utf8.prefix(Limits.fieldBytes), as: UTF8.self) + "…"
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
}

/// Lets the first hundred lines of a kind through in each second, and of the others each
/// hundredth. etcd: `zap.SamplingConfig`.
struct LogSampler {
  private static let count = 100
  /// Kinds that are told apart; further ones are let through.
  private static let kindsMax = 512
  private var kinds: [String: (second: UInt64, count: Int)] = [:]

  mutating func admits(_ message: String, _ second: UInt64) -> Bool {
    var seen = kinds[message] ?? (second, 0)
    if seen.second != second { seen = (second, 0) }
    seen.count += 1
    if kinds.count < Self.kindsMax || seen.count > 1 { kinds[message] = seen }
    return seen.count <= Self.count || seen.count % Self.count == 0
  }
}

extension RotatingFile.Policy {
  init(_ rotation: LogOptions.Rotation) {
    self.init(
      bytesMax: rotation.megabytes << 20, backupsMax: rotation.backupsMax,
      ageMax: UInt64(rotation.days) * 86_400_000_000_000, isLocal: rotation.usesLocalTime,
      compresses: rotation.compresses)
  }
}

/// Makes a gzip of a file beside it.
@Sendable private func packFile(_ from: String, _ to: String) throws(Errno) {
  let source = try FileSystem.openForReading(from)
  defer { FileSystem.close(source) }
  let target = try FileSystem.open(to, creates: true)
  defer { FileSystem.close(target) }
  var writer = GzipWriter()
  var at = 0
  var packed: [UInt8] = []
  while true {
    let piece = try FileSystem.read(source, at: at, count: 1 << 20)
    at += piece.count
    packed.removeAll(keepingCapacity: true)
    writer.pack(piece, isLast: piece.isEmpty, into: &packed)
    try FileSystem.append(target, packed.rawSpan)
    if piece.isEmpty { break }
  }
  try FileSystem.sync(target)
}
