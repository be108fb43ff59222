import Glibc
import Platform
import Testing

/// A folder of its own, gone with the test.
private struct Folder: ~Copyable {
  let path: String

  init() throws {
    var name = Array("/tmp/martlet-log-XXXXXX".utf8CString)
    let made = unsafe name.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) != nil }
    #expect(made)
    path = String(decoding: name.dropLast().map { UInt8($0) }, as: UTF8.self)
  }

  deinit { try? FileSystem.removeAll(path) }

  func names() throws -> [String] { try FileSystem.list(path) }

  func text(_ name: String) throws -> String {
    String(
      decoding: try FileSystem.contents("\(path)/\(name)", bytesMax: 1 << 20), as: UTF8.self)
  }
}

@Suite struct LogFileTests {
  /// 2020-01-01T00:00:00.250Z.
  static let start: UInt64 = 1_577_836_800_250_000_000
  static let hour: UInt64 = 3_600_000_000_000

  static func policy(
    backups: Int = 0, hours: UInt64 = 0, compresses: Bool = false
  ) -> RotatingFile.Policy {
    RotatingFile.Policy(
      bytesMax: 10, backupsMax: backups, ageMax: hours * hour, isLocal: false,
      compresses: compresses)
  }

  /// Writes `count` lines that fill a file each, an hour apart.
  static func fill(_ path: String, _ policy: RotatingFile.Policy?, count: Int) throws -> [Bool] {
    var file = try RotatingFile.open(path, policy)
    defer { file.close() }
    return try (0..<count).map { number in
      try file.append(
        Array("line-\(number)..\n".utf8), wall: start + UInt64(number) * hour)
    }
  }

  static func neverPacks(_ from: String, _ to: String) throws(Errno) {
    Issue.record("\(from) was packed")
  }

  @Test func `a full file gives way under the name of the time`() throws {
    let folder = try Folder()
    let rotated = try Self.fill("\(folder.path)/a.b.log", Self.policy(), count: 3)
    #expect(rotated == [false, true, true])
    #expect(
      try folder.names() == [
        "a.b-2020-01-01T01-00-00.250.log", "a.b-2020-01-01T02-00-00.250.log", "a.b.log",
      ])
    #expect(try folder.text("a.b-2020-01-01T01-00-00.250.log") == "line-0..\n")
    #expect(try folder.text("a.b.log") == "line-2..\n")
  }

  @Test func `without a policy a file grows, over restarts too`() throws {
    let folder = try Folder()
    for _ in 0..<2 { _ = try Self.fill("\(folder.path)/log", nil, count: 2) }
    #expect(try folder.text("log") == "line-0..\nline-1..\nline-0..\nline-1..\n")
  }

  @Test func `what a file held at the start counts`() throws {
    let folder = try Folder()
    _ = try Self.fill("\(folder.path)/log", nil, count: 1)
    #expect(try Self.fill("\(folder.path)/log", Self.policy(), count: 1) == [true])
  }

  @Test func `too many and too old are removed, and nothing that is not ours`() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.log"
    _ = try Self.fill(path, Self.policy(), count: 5)
    for name in ["a-b.log", "a-2020-01-01T00-00-00.000.txt", "b-2020-01-01T00-00-00.000.log"] {
      try FileSystem.create("\(folder.path)/\(name)", [], mode: 0o600)
    }
    let others = try folder.names().count - 4
    func left(_ policy: RotatingFile.Policy) throws -> Int {
      let file = try RotatingFile.open(path, policy)
      defer { file.close() }
      try file.tidy(wall: Self.start + 4 * Self.hour, pack: Self.neverPacks)
      return try folder.names().count - others
    }
    #expect(try left(Self.policy()) == 4)
    #expect(try left(Self.policy(backups: 3)) == 3)
    #expect(try left(Self.policy(hours: 1)) == 2)
    #expect(try folder.names().contains("a-2020-01-01T04-00-00.250.log"))
  }

  @Test func `what is kept is packed once, and counts as one`() throws {
    let folder = try Folder()
    let path = "\(folder.path)/a.log"
    _ = try Self.fill(path, Self.policy(), count: 4)
    let file = try RotatingFile.open(path, Self.policy(backups: 2, compresses: true))
    defer { file.close() }
    for _ in 0..<2 {
      try file.tidy(wall: Self.start) { from, to throws(Errno) in
        #expect(!from.hasSuffix(".gz"))
        try FileSystem.copy(from, to: to)
      }
      #expect(
        try folder.names() == [
          "a-2020-01-01T02-00-00.250.log.gz", "a-2020-01-01T03-00-00.250.log.gz", "a.log",
        ])
    }
  }

  @Test func `directories above a file that rotates are made, and others are missed`() throws {
    let folder = try Folder()
    _ = try Self.fill("\(folder.path)/x/y/log", Self.policy(), count: 1)
    #expect(throws: Errno.missing) { try Self.fill("\(folder.path)/z/log", nil, count: 1) }
  }

  @Test func `a point in time reads as a calendar shows it`() {
    #expect(CivilTime(Self.start).text(decimals: 6) == "2020-01-01T00:00:00.250000")
    #expect(CivilTime(951_782_400_000_000_000).text("-", decimals: 0) == "2000-02-29T00-00-00.")
  }
}

@Suite struct LogSinkTests {
  static func line(_ text: String) -> LogSink.Line {
    LogSink.Line(priority: 6, bytes: Array("\(text)\n".utf8))
  }

  static func sink(_ target: LogSink.Target) -> LogSink {
    LogSink(target, lossText: { line("\($0) lines are missing") }) { _, _ throws(Errno) in }
  }

  static func pipe() -> (read: Int32, write: Int32) {
    var ends: [Int32] = [0, 0]
    #expect(unsafe Glibc.pipe(&ends) == 0)
    return (ends[0], ends[1])
  }

  @Test func `a place that takes nothing costs lines and no time`() throws {
    let (read, write) = Self.pipe()
    defer { _ = Glibc.close(read) }
    let sink = Self.sink(.descriptor(write))
    let start = Clock.monotonic()
    let tail = String(repeating: "x", count: 90)
    for number in 0..<50_000 { sink.offer(Self.line("\(number) \(tail)")) }
    #expect(Clock.monotonic() - start < 5_000_000_000)
    let dropped = sink.dropped
    #expect(dropped > 30_000)
    sink.flush(until: Clock.monotonic() + 10_000_000)
    // Somebody reads again: all that was kept comes, in order, and how many did not.
    var text: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    var kept = 0
    var told = 0
    var isInOrder = true
    while kept < 50_000 - dropped || told < dropped {
      let count = unsafe Glibc.read(read, &piece, piece.count)
      try #require(count > 0)
      text += piece[..<count]
      while let end = text.firstIndex(of: 10) {
        let words = String(decoding: text[..<end], as: UTF8.self).split(separator: " ")
        text.removeFirst(end + 1)
        let number = try #require(Int(words[0]))
        if words.count > 2 { told += number } else { kept += 1 }
        if words.count == 2, told == 0 { isInOrder = isInOrder && number == kept - 1 }
      }
    }
    #expect(told == dropped && kept == 50_000 - dropped && isInOrder)
    sink.flush(until: Clock.monotonic() + 10_000_000_000)
  }

  @Test func `a file takes lines in order`() throws {
    let folder = try Folder()
    let sink = Self.sink(.file(try RotatingFile.open("\(folder.path)/log", nil)))
    for number in 0..<1000 { sink.offer(Self.line("\(number)")) }
    sink.flush(until: Clock.monotonic() + 10_000_000_000)
    let lines = try folder.text("log").split(separator: "\n")
    #expect(lines.map(String.init) == (0..<1000).map(String.init))
    #expect(sink.dropped == 0)
  }

  @Test func `the journal gets fields, and must be there`() throws {
    let folder = try Folder()
    let path = "\(folder.path)/socket"
    #expect(throws: Errno.missing) { try Journal(path, program: "p") }
    let receiver = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    defer { _ = Glibc.close(receiver) }
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    let size = socklen_t(MemoryLayout<sockaddr_un>.size)
    let bound = unsafe withUnsafePointer(to: &address) {
      unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(receiver, $0, size)
      }
    }
    #expect(bound == 0)
    let sink = Self.sink(.journal(try Journal(path, program: "p")))
    sink.offer(LogSink.Line(priority: 4, bytes: Array("{\"a\":1}\n".utf8)))
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = unsafe recv(receiver, &bytes, bytes.count, 0)
    #expect(
      String(decoding: bytes[..<count], as: UTF8.self)
        == "MESSAGE={\"a\":1}\nPRIORITY=4\nSYSLOG_IDENTIFIER=p\n")
  }
}
