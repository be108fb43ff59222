internal import Basics

/// Where the log goes, how much of it, and in what form.
public struct LogOptions: Equatable, Sendable {
  public enum Output: Equatable, Sendable {
    case standardError
    case standardOutput
    case journal
    case file(String)
  }

  public enum Format: String, Sendable {
    case json
    case console
  }

  /// `--log-rotation-config-json`, in lumberjack's terms.
  public struct Rotation: Equatable, Sendable {
    public var megabytes = 100
    /// For how long files that were put by are kept; 0: for ever.
    public var days = 0
    /// How many are; 0: all.
    public var backupsMax = 0
    public var usesLocalTime = false
    public var compresses = false
  }

  public var level = "info"
  public var format = Format.json
  public var outputs = [Output.standardError]
  /// Nil: a file grows for ever.
  public var rotation: Rotation?

  /// To standard error, as when nothing is said.
  public init() {}

  /// etcd: server/embed/config_logging.go, `setupLogging`.
  init(_ settings: Settings) throws(ConfigError) {
    let logger = settings.text("logger")
    guard logger == "zap" else {
      throw ConfigError(
        logger == "capnslog"
          ? "--logger=capnslog is removed in v3.5" : "unknown logger option \"\(logger)\"")
    }
    level = settings.text("log-level")
    guard ["debug", "info", "warn", "error", "panic", "fatal"].contains(level) else {
      throw ConfigError("unrecognized level: \"\(level)\" [--log-level]", exitStatus: 2)
    }
    let format = settings.text("log-format")
    guard let known = Format(rawValue: format.isEmpty ? "json" : format) else {
      throw ConfigError(
        "unknown log format: \(format), supported values json, console [--log-format]")
    }
    self.format = known
    var names = settings.list("log-outputs")
    if names.isEmpty { names = ["default"] }
    if names.count > 1, names.contains("default") {
      throw ConfigError("multi logoutput for \"default\" is not supported yet [--log-outputs]")
    }
    if settings.flag("enable-log-rotation") {
      rotation = try Rotation(names, settings.text("log-rotation-config-json"))
    }
    if names.contains(Self.journal), names.count > 1 {
      throw ConfigError(
        "running with systemd/journal but other '--log-outputs' values (\(names)) are "
          + "configured: the journal stands alone [--log-outputs]")
    }
    outputs = []
    for name in names {
      let output = try Self.output(name)
      if !outputs.contains(output) { outputs.append(output) }
    }
    if outputs.contains(.file("/dev/null")) { outputs = [.file("/dev/null")] }
  }

  private static let journal = "systemd/journal"

  private static func output(_ name: String) throws(ConfigError) -> Output {
    switch name {
    case "default", "stderr": return .standardError
    case "stdout": return .standardOutput
    case journal: return .journal
    default:
      let path = name.hasPrefix("file:///") ? String(name.dropFirst(7)) : name
      guard !path.contains("://") else {
        throw ConfigError("couldn't open sink \"\(name)\": only files are known [--log-outputs]")
      }
      return .file(path)
    }
  }
}

extension LogOptions.Rotation {
  fileprivate init(_ outputs: [String], _ text: String) throws(ConfigError) {
    let files = outputs.filter { !["default", "stderr", "stdout"].contains($0) }
    guard files.count == 1 || (files.isEmpty && outputs.count > 1) else {
      throw ConfigError(
        "--log-outputs requires a single file path when --log-rotate-config-json is defined "
          + "[--log-outputs, --enable-log-rotation]")
    }
    let json: JSON
    do throws(JSON.Malformed) {
      json = try JSON.parse(Array(text.utf8))
    } catch {
      throw ConfigError(
        "improperly formatted log rotation config: \(error.text) [--log-rotation-config-json]")
    }
    func refuse(_ name: String) -> ConfigError {
      ConfigError("invalid log rotation config: \(name) [--log-rotation-config-json]")
    }
    guard case .object = json else { throw refuse("it must be an object") }
    func number(_ name: String) throws(ConfigError) -> Int {
      guard let value = json[name], value != .null else { return 0 }
      guard let found = value.unsigned, found <= 100_000 else {
        throw refuse("\(name) must be a whole number")
      }
      return Int(found)
    }
    func flag(_ name: String) throws(ConfigError) -> Bool {
      guard let value = json[name], value != .null else { return false }
      guard case .bool(let found) = value else { throw refuse("\(name) must be true or false") }
      return found
    }
    let size = try number("maxsize")
    megabytes = size == 0 ? 100 : size
    days = try number("maxage")
    backupsMax = try number("maxbackups")
    usesLocalTime = try flag("localtime")
    compresses = try flag("compress")
  }
}
