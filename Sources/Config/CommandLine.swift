/// Why a command line is refused. `text` is for a person and names the setting; etcd ends with
/// status 2 for a line it cannot read and 1 for settings that do not fit together.
public struct ConfigError: Error, Equatable, Sendable {
  public var text: String
  public var exitStatus: Int32
  public init(_ text: String, exitStatus: Int32 = 1) {
    self.text = text
    self.exitStatus = exitStatus
  }
}

/// What was set, and where: names are flags' without dashes, values are text. A configuration
/// file stands alone; otherwise a flag wins over the environment.
public struct Settings: Sendable {
  public enum Source: Equatable, Sendable {
    case flag
    case environment
    case file
  }

  public internal(set) var values: [String: String] = [:]
  public internal(set) var sources: [String: Source] = [:]
  public private(set) var wantsHelp = false
  /// Things worth a line in the log: a message, and what it is about.
  public internal(set) var notes: [(message: String, subject: String)] = []
  /// Where the settings were read from, when not from the line and the environment.
  public internal(set) var file: String?

  /// Reads `--flag v`, `--flag=v` and `-flag v`, and `ETCD_FLAG_NAME` for those the line leaves
  /// out; with `--config-file` or `ETCD_CONFIG_FILE` instead what `read` gives for that path.
  public init(
    arguments: [String], environment: [(name: String, value: String)],
    read: (String) throws(ConfigError) -> [UInt8] = { path throws(ConfigError) in
      throw ConfigError("open \(path): no files here")
    }
  ) throws(ConfigError) {
    try take(arguments)
    if wantsHelp || flag("version") { return }
    let variable = environment.first { $0.name == "ETCD_CONFIG_FILE" }?.value ?? ""
    let path = values["config-file"] ?? variable
    if path.isEmpty {
      try take(environment)
    } else {
      let shadowed = sources.keys.filter { $0 != "config-file" }.sorted()
      values.removeAll()
      sources.removeAll()
      notes = shadowed.map {
        ("this flag is ignored: a configuration file is given", "--\($0)")
      }
      file = path
      try take(file: try read(path), path)
    }
  }

  /// Go's flag package: options end at the first word that is none.
  private mutating func take(_ arguments: [String]) throws(ConfigError) {
    var at = arguments.startIndex
    while at < arguments.endIndex {
      let word = arguments[at]
      at += 1
      guard word.hasPrefix("-"), word != "-", word != "--" else {
        if word == "--", at == arguments.endIndex { return }
        throw ConfigError("'\(word == "--" ? arguments[at] : word)' is not a valid flag")
      }
      let body = word.hasPrefix("--") ? word.dropFirst(2) : word.dropFirst(1)
      let parts = body.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      guard !name.isEmpty, !name.hasPrefix("-") else {
        throw ConfigError("bad flag syntax: \(word)", exitStatus: 2)
      }
      if name == "h" || name == "help" {
        wantsHelp = true
        return
      }
      guard let flag = Self.table[name], flag.group != .file else {
        throw ConfigError("flag provided but not defined: -\(name)", exitStatus: 2)
      }
      if parts.count == 2 {
        try set(flag, String(parts[1]), .flag)
      } else if flag.kind == .boolean {
        try set(flag, "true", .flag)
      } else if at < arguments.endIndex {
        try set(flag, arguments[at], .flag)
        at += 1
      } else {
        throw ConfigError("flag needs an argument: -\(name)", exitStatus: 2)
      }
    }
  }

  private mutating func take(
    _ environment: [(name: String, value: String)]
  ) throws(ConfigError) {
    for (name, value) in environment {
      guard name.hasPrefix("ETCD_"), !value.isEmpty else { continue }
      let flag = name.dropFirst(5).lowercased().map { $0 == "_" ? "-" : String($0) }.joined()
      guard let known = Self.table[flag], known.group != .file, flag != "version" else {
        notes.append(("unrecognized environment variable", name))
        continue
      }
      if sources[flag] == .flag {
        // etcd refuses to start here, whatever the two say.
        notes.append(("this environment variable is ignored: its flag is given", name))
        continue
      }
      try set(known, value, .environment)
    }
  }

  static let table: [String: Flag] = Dictionary(
    uniqueKeysWithValues: Flag.all.map { ($0.name, $0) })

  mutating func set(
    _ flag: Flag, _ value: String, _ source: Source
  ) throws(ConfigError) {
    let reason: String? =
      switch flag.kind {
      case .text, .urls: nil
      case .boolean: Self.boolean(value) == nil ? "parse error" : nil
      case .number: Int64(value) == nil ? "parse error" : nil
      case .unsigned: UInt64(value) == nil ? "parse error" : nil
      case .duration: Self.isDuration(value) || value.isEmpty ? nil : "parse error"
      case .choice(let choices): choices.contains(value) ? nil : "invalid value"
      }
    sources[flag.name] = source
    if let reason { throw refusal(flag.name, value, reason) }
    values[flag.name] = value
    if flag.group == .outdated {
      notes.append(("this flag means nothing any more and is ignored", "--\(flag.name)"))
    }
  }

  /// The text that etcd has for a value it cannot use, by where the value comes from.
  func refusal(_ name: String, _ value: String, _ reason: String) -> ConfigError {
    switch sources[name] {
    case .environment:
      let variable = "ETCD_" + name.uppercased().map { $0 == "-" ? "_" : String($0) }.joined()
      return ConfigError("invalid value \"\(value)\" for \(variable): \(reason)")
    case .file:
      return ConfigError(
        "\(file ?? ""): unexpected error setting up \(name): \(reason) (\"\(value)\")")
    case .flag, nil:
      let isBoolean = Self.table[name]?.kind == .boolean
      return ConfigError(
        isBoolean
          ? "invalid boolean value \"\(value)\" for -\(name): \(reason)"
          : "invalid value \"\(value)\" for flag -\(name): \(reason)", exitStatus: 2)
    }
  }

  /// Set by the user, wherever.
  public func isGiven(_ name: String) -> Bool { sources[name] != nil }
  /// What was set, or the default; empty for a flag that is not known.
  public func text(_ name: String) -> String { values[name] ?? Self.table[name]?.standard ?? "" }
  /// The same as a whole number; beyond Int64 its largest.
  public func number(_ name: String) -> Int64 {
    Int64(text(name)) ?? (UInt64(text(name)) == nil ? 0 : .max)
  }
  /// The same as a truth value.
  public func flag(_ name: String) -> Bool { Self.boolean(text(name)) ?? false }
  /// The same in nanoseconds; 0 for what is negative.
  public func duration(_ name: String) -> UInt64 { Self.nanoseconds(text(name)) ?? 0 }
  /// The parts of a comma-separated list.
  public func list(_ name: String) -> [String] {
    text(name).split(separator: ",").map(String.init)
  }
}

extension Settings {
  /// Go's strconv.ParseBool.
  public static func boolean(_ text: String) -> Bool? {
    switch text {
    case "1", "t", "T", "true", "TRUE", "True": true
    case "0", "f", "F", "false", "FALSE", "False": false
    default: nil
    }
  }

  private static func isDuration(_ text: String) -> Bool {
    nanoseconds(text.hasPrefix("-") ? String(text.dropFirst()) : text) != nil
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
