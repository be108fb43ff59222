internal import Basics

/// A whole HTTP/1.1 request.
public struct Request: Sendable {
  public var method: String
  /// The target up to `?`.
  public var path: String
  /// What follows `?`, or empty.
  public var query: String
  /// Names in lower case.
  public var headers: [(name: String, value: String)]
  public var body: [UInt8]
  /// Whether the connection stays open after the answer.
  public var keepsAlive: Bool

  public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// Why a request is refused, with the status to answer.
public struct Refusal: Error, Equatable, Sendable {
  public var status: Int
  public var reason: String
  public init(_ status: Int, _ reason: String) {
    self.status = status
    self.reason = reason
  }
}

/// Reads HTTP/1.1 requests (RFC 9112) from bytes as they come; strict where leniency has been
/// abused: no bare line feeds in the head, no folded headers, no space before a colon, one
/// length only.
public struct RequestParser: ~Copyable {
  public enum Limits {
    public static let headBytes = 16 << 10
    public static let headersMax = 100
  }

  private var bytes: [UInt8] = []
  private let bodyBytesMax: Int
  private var head: Request?
  private var headEnd = 0
  private var length = 0
  private var isChunked = false
  private var chunkAt = 0
  private var chunkedBody: [UInt8] = []
  /// The client waits for `100 Continue` before it sends the body.
  public private(set) var wantsContinue = false

  public init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

  public var isInsideRequest: Bool { !bytes.isEmpty }

  /// Takes bytes of the connection; what lies behind a whole request waits for its turn.
  public mutating func receive(_ more: RawSpan) { bytes.append(contentsOf: more) }

  /// The next whole request, nil when more bytes are needed.
  public mutating func next() throws(Refusal) -> Request? {
    if head == nil {
      guard try readHead() else { return nil }
    }
    if isChunked {
      guard try readChunks() else { return nil }
      return finish(body: chunkedBody, end: chunkAt)
    }
    guard bytes.count - headEnd >= length else { return nil }
    return finish(body: Array(bytes[headEnd..<headEnd + length]), end: headEnd + length)
  }

  private mutating func finish(body: [UInt8], end: Int) -> Request? {
    guard var request = head else { return nil }
    request.body = body
    bytes.removeFirst(end)
    head = nil
    wantsContinue = false
    chunkedBody = []
    return request
  }

  private mutating func readHead() throws(Refusal) -> Bool {
    // RFC 9112 §2.2: an empty line before a request is skipped.
    while bytes.starts(with: [13, 10]) { bytes.removeFirst(2) }
    guard let end = endOfHead() else {
      if bytes.count > Limits.headBytes { throw Refusal(431, "the request's head is too large") }
      return false
    }
    guard end <= Limits.headBytes else { throw Refusal(431, "the request's head is too large") }
    let lines = try Self.lines(bytes[..<(end - 4)])
    var request = try Self.requestLine(lines[0])
    guard lines.count - 1 <= Limits.headersMax else { throw Refusal(431, "too many headers") }
    for line in lines.dropFirst() { request.headers.append(try Self.header(line)) }
    headEnd = end
    try readFraming(&request)
    head = request
    return true
  }

  private func endOfHead() -> Int? {
    var at = 3
    while at < bytes.count {
      if bytes[at] == 10, bytes[at - 1] == 13, bytes[at - 2] == 10, bytes[at - 3] == 13 {
        return at + 1
      }
      at += 1
    }
    return nil
  }

  private static func lines(_ head: ArraySlice<UInt8>) throws(Refusal) -> [String] {
    var lines: [String] = []
    var line: [UInt8] = []
    var at = head.startIndex
    while at < head.endIndex {
      let byte = head[at]
      if byte == 13, at + 1 < head.endIndex, head[at + 1] == 10 {
        lines.append(String(decoding: line, as: UTF8.self))
        line.removeAll(keepingCapacity: true)
        at += 2
        continue
      }
      guard byte != 13, byte != 10, byte != 0 else {
        throw Refusal(400, "a control character in the request's head")
      }
      line.append(byte)
      at += 1
    }
    lines.append(String(decoding: line, as: UTF8.self))
    return lines
  }

  private static func requestLine(_ line: String) throws(Refusal) -> Request {
    let parts = line.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, !parts[1].isEmpty,
      parts[0].utf8.allSatisfy(isToken)
    else { throw Refusal(400, "the request line is malformed") }
    guard parts[2] == "HTTP/1.1" || parts[2] == "HTTP/1.0" else {
      throw Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    }
    var target = parts[1]
    if target.hasPrefix("http://") || target.hasPrefix("https://") {
      let rest = target.dropFirst(target.hasPrefix("https") ? 8 : 7)
      target = rest.firstIndex(of: "/").map { rest[$0...] } ?? "/"
    }
    guard target.hasPrefix("/") || target == "*" else {
      throw Refusal(400, "the request's target is malformed")
    }
    let halves = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    return Request(
      method: String(parts[0]), path: String(halves[0]),
      query: halves.count > 1 ? String(halves[1]) : "", headers: [], body: [],
      keepsAlive: parts[2] == "HTTP/1.1")
  }

  private static func isToken(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
    default: [UInt8]("!#$%&'*+-.^_`|~").contains(byte)
    }
  }

  private static func header(_ line: String) throws(Refusal) -> (name: String, value: String) {
    guard let colon = line.firstIndex(of: ":"), colon > line.startIndex,
      line[..<colon].utf8.allSatisfy(isToken)
    else { throw Refusal(400, "a header is malformed") }
    var value = line[line.index(after: colon)...]
    while let first = value.first, first == " " || first == "\t" { value.removeFirst() }
    while let last = value.last, last == " " || last == "\t" { value.removeLast() }
    return (line[..<colon].lowercased(), String(value))
  }

  /// How long the body is (RFC 9112 §6): a chunked body and a length together are refused.
  private mutating func readFraming(_ request: inout Request) throws(Refusal) {
    length = 0
    isChunked = false
    chunkAt = headEnd
    var lengths: [String] = []
    for (name, value) in request.headers {
      switch name {
      case "content-length": lengths.append(value)
      case "transfer-encoding":
        guard value.lowercased() == "chunked" else { throw Refusal(501, "only chunked is known") }
        isChunked = true
      case "connection":
        let words = value.lowercased().split(separator: ",").map { $0.filter { $0 != " " } }
        if words.contains("close") { request.keepsAlive = false }
        if words.contains("keep-alive") { request.keepsAlive = true }
      case "expect":
        guard value.lowercased() == "100-continue" else {
          throw Refusal(417, "unknown expectation")
        }
        wantsContinue = true
      default: break
      }
    }
    if let first = lengths.first {
      guard !isChunked, lengths.allSatisfy({ $0 == first }), first.utf8.count < 16,
        first.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let count = Int(first)
      else { throw Refusal(400, "the body's length is contradictory or malformed") }
      guard count <= bodyBytesMax else { throw Refusal(413, "the body is too large") }
      length = count
    }
  }

  /// Moves whole chunks into `chunkedBody`; true at the last one (RFC 9112 §7.1).
  private mutating func readChunks() throws(Refusal) -> Bool {
    while let lineEnd = endOfLine(from: chunkAt) {
      let digits = bytes[chunkAt..<lineEnd].prefix { $0 != UInt8(ascii: ";") }
      guard !digits.isEmpty, digits.count <= 8,
        let size = Int(String(decoding: digits, as: UTF8.self), radix: 16), size >= 0
      else { throw Refusal(400, "a chunk's size is malformed") }
      guard chunkedBody.count + size <= bodyBytesMax else {
        throw Refusal(413, "the body is too large")
      }
      let start = lineEnd + 2
      if size == 0 {
        guard let end = endOfLine(from: start) else { return false }
        guard end == start else { throw Refusal(400, "trailers are not taken") }
        chunkAt = end + 2
        return true
      }
      guard bytes.count >= start + size + 2 else { return false }
      guard bytes[start + size] == 13, bytes[start + size + 1] == 10 else {
        throw Refusal(400, "a chunk does not end where it says")
      }
      chunkedBody += bytes[start..<start + size]
      chunkAt = start + size + 2
    }
    if bytes.count - chunkAt > 1024 { throw Refusal(400, "a chunk's size line is too long") }
    return false
  }

  private func endOfLine(from start: Int) -> Int? {
    var at = start
    while at + 1 < bytes.count {
      if bytes[at] == 13, bytes[at + 1] == 10 { return at }
      at += 1
    }
    return nil
  }
}

/// The text of a status code, for the status line.
public func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 100: "Continue"
  case 200: "OK"
  case 201: "Created"
  case 204: "No Content"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 412: "Precondition Failed"
  case 413: "Content Too Large"
  case 417: "Expectation Failed"
  case 431: "Request Header Fields Too Large"
  case 500: "Internal Server Error"
  case 501: "Not Implemented"
  case 503: "Service Unavailable"
  case 505: "HTTP Version Not Supported"
  default: "Status"
  }
}

/// Appends a whole answer with its length.
public func appendResponse(
  status: Int, contentType: String, body: RawSpan, keepsAlive: Bool, to bytes: inout [UInt8]
) {
  var head = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
  head += "Content-Type: \(contentType)\r\nContent-Length: \(body.byteCount)\r\n"
  if !keepsAlive { head += "Connection: close\r\n" }
  bytes += Array((head + "\r\n").utf8)
  bytes.append(contentsOf: body)
}
