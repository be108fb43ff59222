import Testing

@testable import Config

@Suite struct LogOptionsTests {
  func log(_ arguments: String...) throws -> LogOptions {
    try Options(Settings(arguments: arguments, environment: [])).log
  }

  @Test func `the log goes to standard error as JSON when nothing is said`() throws {
    #expect(try log() == LogOptions())
    #expect(try log("--log-outputs=default").outputs == [.standardError])
  }

  @Test func `each place is gone to once, and with the void to none other`() throws {
    let found = try log(
      "--log-outputs=stderr,/a/b.log,stdout,file:///a/b.log", "--log-format=console")
    #expect(found.outputs == [.standardError, .file("/a/b.log"), .standardOutput])
    #expect(found.format == .console)
    #expect(try log("--log-outputs=stderr,/dev/null").outputs == [.file("/dev/null")])
    #expect(try log("--log-outputs=systemd/journal").outputs == [.journal])
  }

  @Test func `rotation is lumberjack's`() throws {
    #expect(
      try log("--log-outputs=/a,stderr", "--enable-log-rotation").rotation
        == LogOptions.Rotation())
    let text = #"{"maxsize": 7, "maxage": 3, "maxbackups": 2, "localtime": true, "compress": true}"#
    let found = try log(
      "--log-outputs=/a", "--enable-log-rotation", "--log-rotation-config-json", text)
    #expect(
      found.rotation
        == LogOptions.Rotation(
          megabytes: 7, days: 3, backupsMax: 2, usesLocalTime: true, compresses: true))
    #expect(try log("--log-outputs=/a", "--log-rotation-config-json={").rotation == nil)
  }

  static let rotates = ["--enable-log-rotation", "--log-outputs=/a"]

  @Test(arguments: [
    (["--log-outputs=default,stderr"], "multi logoutput for \"default\" is not supported yet"),
    (["--log-outputs=systemd/journal,stderr"], "running with systemd/journal but other"),
    (["--log-outputs=http://a"], "couldn't open sink \"http://a\""),
    (["--log-format=xml"], "unknown log format: xml, supported values json, console"),
    (["--enable-log-rotation"], "--log-outputs requires a single file path when"),
    (["--enable-log-rotation", "--log-outputs=/a,/b"], "requires a single file path"),
    (
      rotates + ["--log-rotation-config-json={"],
      "improperly formatted log rotation config: unexpected EOF"
    ),
    (
      rotates + ["--log-rotation-config-json", #"{"maxsize": "x"}"#],
      "invalid log rotation config: maxsize"
    ),
    (
      rotates + ["--log-rotation-config-json", #"{"compress": 1}"#],
      "invalid log rotation config: compress"
    ),
    (
      rotates + ["--log-rotation-config-json", #"{"maxage": 99999999}"#],
      "invalid log rotation config: maxage"
    ),
  ])
  func `what does not fit is refused`(arguments: [String], text: String) {
    let error = #expect(throws: ConfigError.self) {
      try Options(Settings(arguments: arguments, environment: []))
    }
    #expect(error?.text.contains(text) == true, "\(String(describing: error))")
    #expect(error?.exitStatus == 1)
  }
}
