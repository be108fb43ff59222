internal import Basics

/// Reads a request's head, whose lines all end in CR LF, and says how its body is framed.
struct HeadReader {
  var request: Request
  var length = 0
  var isChunked = false
  var awaitsContinue = false

  private var hosts = 0
  private var lengths = 0
  private var codings = 0
  private var closes = false

  static func read(
    _ head: ArraySlice<UInt8>, bodyBytesMax: Int
  ) throws(Refusal) -> HeadReader {
    var rest = head
    guard let first = try line(&rest) else { throw Refusal(400, "the request line is missing") }
    var reader = HeadReader(request: try requestLine(first))
    while let line = try line(&rest) {
      guard reader.request.headers.count < RequestParser.Limits.headersMax else {
        throw Refusal(431, "too many headers")
      }
      let (name, value) = try field(line)
      try reader.take(name, value)
      reader.request.headers.append((name, String(decoding: value, as: UTF8.self)))
    }
    try reader.finish(bodyBytesMax)
    return reader
  }

  /// Cuts a line off; control characters other than tabs are refused (RFC 9110 §5.5).
  private static func line(_ rest: inout ArraySlice<UInt8>) throws(Refusal) -> ArraySlice<UInt8>? {
    guard !rest.isEmpty else { return nil }
    var at = rest.startIndex
    while at < rest.endIndex {
      let byte = rest[at]
      if byte == 13, at + 1 < rest.endIndex, rest[at + 1] == 10 {
        let line = rest[..<at]
        rest = rest[(at + 2)...]
        return line
      }
      guard byte >= 0x20 && byte != 0x7f || byte == 9 else { break }
      at += 1
    }
    throw Refusal(400, "a control character in the request's head")
  }

  // MARK: Request line (RFC 9112 §3)

  private static func requestLine(_ line: ArraySlice<UInt8>) throws(Refusal) -> Request {
    let parts = line.split(separator: 0x20, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[0].isEmpty, parts[0].allSatisfy(isToken) else {
      throw Refusal(400, "the request line is malformed")
    }
    let version = Array(parts[2])
    guard version.starts(with: [UInt8]("HTTP/")), version.count == 8, version[6] == 0x2e else {
      throw Refusal(400, "the request line is malformed")
    }
    guard version[5] == 0x31, version[7] == 0x30 || version[7] == 0x31 else {
      throw Refusal(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    }
    let isOld = version[7] == 0x30
    let method = String(decoding: parts[0], as: UTF8.self)
    let target = try origin(parts[1], method)
    let path = target.prefix { $0 != 0x3f }
    return Request(
      method: method, path: String(decoding: path, as: UTF8.self),
      query: String(decoding: target.dropFirst(path.count + 1), as: UTF8.self), isOld: isOld,
      keepsAlive: !isOld)
  }

  /// The target's path and query: of the forms in RFC 9112 §3.2 all but CONNECT's.
  private static func origin(
    _ target: ArraySlice<UInt8>, _ method: String
  ) throws(Refusal) -> ArraySlice<UInt8> {
    let malformed = Refusal(400, "the request's target is malformed")
    guard target.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { throw malformed }
    if target.first == 0x2f { return target }
    if target.elementsEqual([0x2a]), method == "OPTIONS" { return target }
    for scheme in [[UInt8]("http://"), [UInt8]("https://")] where target.starts(with: scheme) {
      let rest = target.dropFirst(scheme.count)
      let authority = rest.prefix { $0 != 0x2f && $0 != 0x3f }
      guard !authority.isEmpty else { throw malformed }
      let path = rest.dropFirst(authority.count)
      return path.first == 0x2f ? path : [0x2f] + path
    }
    throw malformed
  }

  // MARK: Fields (RFC 9110 §5)

  /// A field's name in lower case and its value without the blanks around it.
  static func field(
    _ line: ArraySlice<UInt8>
  ) throws(Refusal) -> (name: String, value: ArraySlice<UInt8>) {
    let name = line.prefix { $0 != 0x3a }
    guard !name.isEmpty, name.count < line.count, name.allSatisfy(isToken) else {
      throw Refusal(400, "a header is malformed")
    }
    return (
      String(decoding: name.map(lower), as: UTF8.self), trimmed(line.dropFirst(name.count + 1))
    )
  }

  private static func trimmed(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var bytes = bytes
    while let first = bytes.first, first == 0x20 || first == 9 { bytes.removeFirst() }
    while let last = bytes.last, last == 0x20 || last == 9 { bytes.removeLast() }
    return bytes
  }

  private static func lower(_ byte: UInt8) -> UInt8 {
    byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte
  }

  private static func isToken(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
    case 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e...0x60, 0x7c, 0x7e: true
    default: false
    }
  }

  // MARK: Framing (RFC 9112 §6)

  private mutating func take(_ name: String, _ value: ArraySlice<UInt8>) throws(Refusal) {
    switch name {
    case "host": hosts += 1
    case "content-length":
      guard !value.isEmpty, value.count <= 15,
        value.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 })
      else { throw Refusal(400, "the body's length is malformed") }
      let count = value.reduce(0) { $0 * 10 + Int($1 - 0x30) }
      guard lengths == 0 || count == length else {
        throw Refusal(400, "the body's length is contradictory")
      }
      lengths += 1
      length = count
    case "transfer-encoding":
      codings += 1
      guard codings == 1, value.map(Self.lower) == [UInt8]("chunked") else {
        throw Refusal(501, "only the transfer coding chunked is known")
      }
      isChunked = true
    case "connection":
      for word in value.split(separator: 0x2c) {
        let word = Self.trimmed(word).map(Self.lower)
        if word == [UInt8]("close") { closes = true }
        if word == [UInt8]("keep-alive") { request.keepsAlive = true }
      }
    case "expect":
      guard value.map(Self.lower) == [UInt8]("100-continue") else {
        throw Refusal(417, "unknown expectation")
      }
      awaitsContinue = !request.isOld
    default: break
    }
  }

  private mutating func finish(_ bodyBytesMax: Int) throws(Refusal) {
    guard hosts == 1 || hosts == 0 && request.isOld else {
      throw Refusal(400, hosts == 0 ? "missing required Host header" : "too many Host headers")
    }
    if isChunked {
      guard lengths == 0, !request.isOld else {
        throw Refusal(400, "the body's length is contradictory")
      }
    }
    guard length <= bodyBytesMax else { throw Refusal(413, "the body is too large") }
    if closes { request.keepsAlive = false }
    if length == 0 && !isChunked { awaitsContinue = false }
  }

  private init(request: Request) { self.request = request }
}
