/// Why a command line is refused. `text` is for a person and names the flag; etcd ends with
/// status 2 for a line it cannot read and 1 for settings that do not fit together.
public struct ConfigError: Error, Equatable, Sendable {
  public var text: String
  public var exitStatus: Int32
  public init(_ text: String, exitStatus: Int32 = 1) {
    self.text = text
    self.exitStatus = exitStatus
  }
}

/// Flags and environment as given: names without dashes, values as text.
public struct Settings: Sendable {
  public private(set) var values: [String: String] = [:]
  /// Set on the command line or by the environment, in the order of the table.
  public private(set) var given: Set<String> = []
  public var wantsHelp = false

  /// Reads `--flag v`, `--flag=v` and `-flag v`, and `ETCD_FLAG_NAME` for those the line leaves
  /// out.
  public init(
    arguments: [String], environment: [(name: String, value: String)]
  ) throws(ConfigError) {
    for (name, value) in environment {
      guard name.hasPrefix("ETCD_"), !value.isEmpty else { continue }
      let flag = name.dropFirst(5).lowercased().map { $0 == "_" ? "-" : String($0) }.joined()
      guard let known = Self.table[flag] else { continue }
      try set(known, value, from: "environment variable \(name)")
    }
    var at = arguments.startIndex
    while at < arguments.endIndex {
      let word = arguments[at]
      at += 1
      guard word.hasPrefix("-"), word != "-", word != "--" else {
        throw ConfigError("'\(word)' is not a valid flag", exitStatus: 2)
      }
      let body = word.hasPrefix("--") ? word.dropFirst(2) : word.dropFirst(1)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      if name == "h" || name == "help" {
        wantsHelp = true
        continue
      }
      guard let flag = Self.table[name] else {
        throw ConfigError("flag provided but not defined: -\(name)", exitStatus: 2)
      }
      if parts.count == 2 {
        try set(flag, String(parts[1]), from: "flag -\(name)")
      } else if flag.kind == .boolean {
        try set(flag, "true", from: "flag -\(name)")
      } else if at < arguments.endIndex {
        try set(flag, arguments[at], from: "flag -\(name)")
        at += 1
      } else {
        throw ConfigError("flag needs an argument: -\(name)", exitStatus: 2)
      }
    }
  }

  private static let table: [String: Flag] = Dictionary(
    uniqueKeysWithValues: Flag.all.map { ($0.name, $0) })

  private mutating func set(
    _ flag: Flag, _ value: String, from source: String
  ) throws(ConfigError) {
    let readable =
      switch flag.kind {
      case .text: true
      case .boolean: Self.boolean(value) != nil
      case .number: Int64(value) != nil
      case .duration: Self.nanoseconds(value) != nil || value.isEmpty
      }
    guard readable else {
      throw ConfigError("invalid value \"\(value)\" for \(source): parse error", exitStatus: 2)
    }
    values[flag.name] = value
    given.insert(flag.name)
  }

  public func text(_ name: String) -> String { values[name] ?? Self.table[name]?.standard ?? "" }
  public func number(_ name: String) -> Int64 { Int64(text(name)) ?? 0 }
  public func flag(_ name: String) -> Bool { Self.boolean(text(name)) ?? false }
  public func duration(_ name: String) -> UInt64 { Self.nanoseconds(text(name)) ?? 0 }

  /// Go's strconv.ParseBool.
  static func boolean(_ text: String) -> Bool? {
    switch text {
    case "1", "t", "T", "true", "TRUE", "True": true
    case "0", "f", "F", "false", "FALSE", "False": false
    default: nil
    }
  }

  /// Go's time.ParseDuration, in whole nanoseconds; nil for what is no duration, is negative
  /// or passes 2^63.
  public static func nanoseconds(_ text: String) -> UInt64? {
    if text == "0" { return 0 }
    let units: [(String, Double)] = [
      ("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9),
    ]
    var rest = Substring(text)
    var total = 0.0
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      guard let amount = Double(digits) else { return nil }
      rest = rest.dropFirst(digits.count)
      let name = rest.prefix { !$0.isNumber && $0 != "." }
      guard let unit = units.first(where: { $0.0 == name }) else { return nil }
      rest = rest.dropFirst(name.count)
      total += amount * unit.1
    }
    return total < 9.2e18 ? UInt64(total) : nil
  }
}
