internal import Basics

/// A request to a peer, written out.
public struct PeerRequest: Sendable {
  public enum Body: Sendable {
    case none
    case bytes([UInt8], type: String)
    /// Comes in chunks: `appendChunk`, then `appendLastChunk`.
    case chunked(type: String)
  }

  public var method: String
  public var path: String
  public var headers: [(name: String, value: String)]
  public var body: Body

  public init(
    _ method: String, _ path: String, headers: [(name: String, value: String)], body: Body
  ) {
    self.method = method
    self.path = path
    self.headers = headers
    self.body = body
  }

  /// Appends head and body, for the server at `authority`.
  public func encode(for authority: String, into bytes: inout [UInt8]) {
    var head = "\(method) \(path) HTTP/1.1\r\nHost: \(authority)\r\n"
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    switch body {
    case .none: break
    case .bytes(let content, let type):
      head += "Content-Type: \(type)\r\nContent-Length: \(content.count)\r\n"
    case .chunked(let type):
      head += "Content-Type: \(type)\r\nTransfer-Encoding: chunked\r\n"
    }
    bytes += Array((head + "\r\n").utf8)
    if case .bytes(let content, _) = body { bytes += content }
  }
}

extension [UInt8] {
  /// Appends one chunk of a body; an empty one is nothing, since it would end the body.
  public mutating func appendChunk(_ piece: RawSpan) {
    guard piece.byteCount > 0 else { return }
    self += Array((String(piece.byteCount, radix: 16) + "\r\n").utf8)
    append(contentsOf: piece)
    self += [13, 10]
  }

  /// Ends a body of chunks.
  public mutating func appendLastChunk() { self += Array("0\r\n\r\n".utf8) }
}

/// Reads one answer of HTTP/1.1 (RFC 9112) from bytes as they come; the body is handed on as it
/// comes, without its chunks' marks.
public struct AnswerReader: Sendable {
  public enum Limits {
    public static let headBytes = 16 << 10
    public static let headersMax = 100
    /// The line of a chunk's size, or one of the trailer.
    public static let lineBytes = 4 << 10
    public static let trailerLinesMax = 32
  }

  /// Status line and fields; names in lower case.
  public struct Head: Sendable {
    public var status: Int
    public var headers: [(name: String, value: String)] = []
    public var keepsAlive: Bool

    /// The first field of that name, which is in lower case.
    public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
  }

  private enum Phase: Sendable {
    case head
    case body(left: Int)
    case untilClose
    case chunkSize
    case chunk(left: Int)
    case chunkEnd
    case trailer(lines: Int)
    case complete
  }

  /// Set once the head has come.
  public private(set) var head: Head?
  private var phase = Phase.head
  private var held: [UInt8] = []
  private var start = 0

  public init() {}

  public var isComplete: Bool {
    if case .complete = phase { return true }
    return false
  }

  /// Whether the connection can carry another request.
  public var leavesConnectionUsable: Bool {
    isComplete && start == held.count && head?.keepsAlive ?? false
  }

  /// Takes bytes of the connection and appends what they hold of the body. What follows a
  /// complete answer is kept, and makes the connection unusable.
  public mutating func receive(_ bytes: RawSpan, body: inout [UInt8]) throws(WireError) {
    if case .chunk = phase, start == held.count {
      held.removeAll(keepingCapacity: true)
      start = 0
    }
    held.append(contentsOf: bytes)
    while try step(&body) {}
    if start == held.count {
      held.removeAll(keepingCapacity: true)
      start = 0
    } else if start > 64 << 10 {
      held.removeFirst(start)
      start = 0
    }
  }

  /// The other side has closed: true when the answer is whole by that.
  public mutating func closed() -> Bool {
    if case .untilClose = phase { phase = .complete }
    return isComplete
  }

  /// False when more bytes are needed.
  private mutating func step(_ body: inout [UInt8]) throws(WireError) -> Bool {
    switch phase {
    case .head: return try readHead()
    case .body(let left):
      let taken = move(left, &body)
      phase = taken == left ? .complete : .body(left: left - taken)
      return false
    case .untilClose:
      _ = move(.max, &body)
      return false
    case .chunkSize:
      guard let line = try line(max: Limits.lineBytes) else { return false }
      let size = try Self.chunkSize(held[line])
      phase = size == 0 ? .trailer(lines: 0) : .chunk(left: size)
      return true
    case .chunk(let left):
      let taken = move(left, &body)
      phase = taken == left ? .chunkEnd : .chunk(left: left - taken)
      return taken == left
    case .chunkEnd:
      guard held.count - start >= 2 else { return false }
      guard held[start] == 13, held[start + 1] == 10 else { throw .malformedAnswer }
      start += 2
      phase = .chunkSize
      return true
    case .trailer(let lines):
      guard let line = try line(max: Limits.lineBytes) else { return false }
      guard lines < Limits.trailerLinesMax else { throw .malformedAnswer }
      phase = line.isEmpty ? .complete : .trailer(lines: lines + 1)
      return true
    case .complete: return false
    }
  }

  private mutating func move(_ count: Int, _ body: inout [UInt8]) -> Int {
    let taken = min(count, held.count - start)
    body += held[start..<start + taken]
    start += taken
    return taken
  }

  /// The next line without its CR LF, and past it; nil when it is not whole.
  private mutating func line(max: Int) throws(WireError) -> Range<Int>? {
    let window = held[start...].prefix(max + 2)
    guard let end = window.firstIndex(of: 10) else {
      guard held.count - start <= max else { throw .malformedAnswer }
      return nil
    }
    guard end > start, held[end - 1] == 13 else { throw .malformedAnswer }
    defer { start = end + 1 }
    return start..<end - 1
  }

  private static func chunkSize(_ line: ArraySlice<UInt8>) throws(WireError) -> Int {
    var size = 0
    var digits = 0
    for byte in line {
      guard let digit = Character(UnicodeScalar(byte)).hexDigitValue, byte < 0x80 else { break }
      digits += 1
      guard digits <= 8 else { throw .malformedAnswer }
      size = size << 4 | digit
    }
    guard digits > 0 else { throw .malformedAnswer }
    if digits < line.count, !(0x20...0x3b).contains(line[line.startIndex + digits]) {
      throw .malformedAnswer
    }
    return size
  }

  // MARK: Head

  private mutating func readHead() throws(WireError) -> Bool {
    guard let end = endOfHead() else {
      guard held.count - start <= Limits.headBytes else { throw .malformedAnswer }
      return false
    }
    guard end - start <= Limits.headBytes else { throw .malformedAnswer }
    let lines = held[start..<end - 4].split(separator: 10, omittingEmptySubsequences: false)
      .map { $0.last == 13 ? $0.dropLast() : $0 }
    start = end
    var head = try Self.statusLine(lines[0])
    guard lines.count <= Limits.headersMax else { throw .malformedAnswer }
    var length: Int?
    var isChunked = false
    for line in lines.dropFirst() {
      let (name, value) = try Self.field(line)
      switch name {
      case "content-length":
        guard let count = Int(value), count >= 0, length == nil || length == count else {
          throw .malformedAnswer
        }
        length = count
      case "transfer-encoding":
        guard value.lowercased() == "chunked" else { throw .malformedAnswer }
        isChunked = true
      case "connection":
        if value.lowercased() == "close" { head.keepsAlive = false }
      default: break
      }
      head.headers.append((name, value))
    }
    // RFC 9112 §6.3: an interim answer is not the one that is waited for.
    if (100..<200).contains(head.status) { return true }
    if head.status == 204 || head.status == 304 {
      phase = .complete
    } else if isChunked {
      phase = .chunkSize
    } else if let length {
      phase = length == 0 ? .complete : .body(left: length)
    } else {
      head.keepsAlive = false
      phase = .untilClose
    }
    self.head = head
    return true
  }

  private func endOfHead() -> Int? {
    var at = start + 3
    while at < held.count {
      if held[at] == 10, held[at - 1] == 13, held[at - 2] == 10, held[at - 3] == 13 {
        return at + 1
      }
      at += 1
    }
    return nil
  }

  private static func statusLine(_ line: ArraySlice<UInt8>) throws(WireError) -> Head {
    let text = String(decoding: line, as: UTF8.self)
    let parts = text.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2, parts[0] == "HTTP/1.1" || parts[0] == "HTTP/1.0",
      parts[1].utf8.count == 3, let status = Int(parts[1]), status >= 100
    else { throw .malformedAnswer }
    return Head(status: status, keepsAlive: parts[0] == "HTTP/1.1")
  }

  private static func field(
    _ line: ArraySlice<UInt8>
  ) throws(WireError) -> (name: String, value: String) {
    guard let colon = line.firstIndex(of: 0x3a), colon > line.startIndex else {
      throw .malformedAnswer
    }
    let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
    var value = line[(colon + 1)...]
    while let first = value.first, first == 0x20 || first == 9 { value.removeFirst() }
    while let last = value.last, last == 0x20 || last == 9 { value.removeLast() }
    return (name, String(decoding: value, as: UTF8.self))
  }
}
