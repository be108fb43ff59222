internal import Basics

/// Reads HTTP/1.1 requests (RFC 9112) from bytes as they come.
///
/// Strict where leniency has been abused: lines end in CR LF, no folded headers, no space before
/// a colon, one Host, one length, and never a length beside chunks. What a body brings is moved
/// out of the buffer as it comes, so that a body costs its own size and no more.
public struct RequestParser: ~Copyable {
  public enum Limits {
    public static let headBytes = 16 << 10
    public static let headersMax = 100
    /// The line of a chunk's size, with what follows a `;`.
    public static let chunkLineBytes = 256
    /// What chunk lines may take beyond 16 bytes and twice the data that they announce.
    public static let chunkExcessBytes = 16 << 10
    public static let trailerBytes = 4 << 10
  }

  /// What comes next in the bytes.
  public enum Step: Sendable {
    /// A request with its body.
    case request(Request)
    /// The head of a request whose body comes in pieces.
    case opened(Request)
    case piece([UInt8])
    /// The end of such a body.
    case ended
  }

  private enum Phase {
    case head
    case body(left: Int)
    case chunkSize
    case chunk(left: Int)
    case chunkEnd
    case trailer(taken: Int)
  }

  private var bytes: [UInt8] = []
  /// Up to here `bytes` is used up; up to `scanned` it holds no end of a head or line.
  private var start = 0
  private var scanned = 0
  private var phase = Phase.head
  private var request: Request?
  /// The request whose body has not come whole, without what has come of it.
  public var current: Request? { request }
  private var body: [UInt8] = []
  private var chunkExcess = 0
  private var awaitsContinue = false
  /// Whether a body is being handed out in pieces.
  public private(set) var isStreaming = false
  private let bodyBytesMax: Int

  public init(bodyBytesMax: Int) { self.bodyBytesMax = bodyBytesMax }

  /// Hands out what was received and not looked at: the connection speaks something else from
  /// here on.
  public mutating func takeBuffered() -> [UInt8] {
    let rest = [UInt8](bytes[start...])
    bytes = []
    skip(to: 0)
    return rest
  }

  /// Bytes that were received and not looked at.
  public var bufferedBytes: Int { bytes.count - start }

  /// Bytes that are kept: those, and the body so far.
  public var heldBytes: Int { bufferedBytes + body.count }

  /// Whether a request has begun and is not whole.
  public var isInsideRequest: Bool { request != nil || start < bytes.count }

  /// Takes bytes of the connection; what lies behind a whole request waits for its turn.
  public mutating func receive(_ more: RawSpan) { bytes.append(contentsOf: more) }

  /// The next whole request, nil when more bytes are needed.
  public mutating func next() throws(Refusal) -> Request? {
    while let step = try next(streaming: { _ in false }) {
      if case .request(let request) = step { return request }
    }
    return nil
  }

  /// The next step, nil when more bytes are needed. `isStreamed` says of a head whether its body
  /// is to come in pieces, whose number nothing limits.
  public mutating func next(
    streaming isStreamed: (Request) -> Bool
  ) throws(Refusal) -> Step? {
    while true {
      switch phase {
      case .head:
        guard try readHead() else { return wait() }
        if let request, isStreamed(request) {
          isStreaming = true
          return .opened(request)
        }
      case .body(let left):
        let taken = move(left)
        phase = .body(left: left - taken)
        if let piece = takePiece() { return piece }
        if taken == left { return finish() }
        return wait()
      case .chunkSize:
        guard try readChunkSize() else { return wait() }
      case .chunk(let left):
        let taken = move(left)
        phase = taken == left ? .chunkEnd : .chunk(left: left - taken)
        if let piece = takePiece() { return piece }
        if taken < left { return wait() }
      case .chunkEnd:
        guard bytes.count - start >= 2 else { return wait() }
        guard bytes[start] == 13, bytes[start + 1] == 10 else {
          throw Refusal(400, "a chunk does not end where it says")
        }
        skip(to: start + 2)
        phase = .chunkSize
      case .trailer(let taken):
        guard let line = try line(max: Limits.trailerBytes - taken) else { return wait() }
        if line.isEmpty { return finish() }
        _ = try HeadReader.field(bytes[line])
        phase = .trailer(taken: taken + line.count + 2)
      }
    }
  }

  /// Whether `100 Continue` is to be sent now: true once, for a client that waits for it.
  public mutating func takeContinue() -> Bool {
    defer { awaitsContinue = false }
    return awaitsContinue && request != nil && body.isEmpty
  }

  /// Takes away what has come of the body of `current`: a body in chunks may so be larger than
  /// what is kept of one.
  public mutating func takeBody() -> [UInt8] {
    defer { body = [] }
    return body
  }

  // MARK: Bytes

  private mutating func skip(to end: Int) {
    start = end
    scanned = end
  }

  /// Gives the used-up bytes back.
  private mutating func wait() -> Step? {
    if start == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= Limits.headBytes * 8)
    } else if start > 0 {
      bytes.removeFirst(start)
    }
    scanned -= start
    start = 0
    return nil
  }

  private mutating func move(_ count: Int) -> Int {
    let taken = min(count, bytes.count - start)
    body += bytes[start..<start + taken]
    skip(to: start + taken)
    return taken
  }

  private mutating func takePiece() -> Step? {
    guard isStreaming, !body.isEmpty else { return nil }
    defer { body = [] }
    return .piece(body)
  }

  private mutating func finish() -> Step? {
    var whole = request
    whole?.body = body
    request = nil
    body = []
    awaitsContinue = false
    phase = .head
    if isStreaming {
      isStreaming = false
      return .ended
    }
    return whole.map(Step.request)
  }

  /// The next line without its end, and past it; nil when it is not whole.
  private mutating func line(max: Int) throws(Refusal) -> Range<Int>? {
    while scanned + 1 < bytes.count {
      if bytes[scanned] == 10 { throw Refusal(400, "a line ends without CR") }
      if bytes[scanned] == 13 {
        guard bytes[scanned + 1] == 10 else { throw Refusal(400, "a CR without LF") }
        let line = start..<scanned
        guard line.count <= max else { break }
        skip(to: scanned + 2)
        return line
      }
      scanned += 1
    }
    guard scanned - start <= max else { throw Refusal(400, "a line is too long") }
    return nil
  }

  // MARK: Head

  private mutating func readHead() throws(Refusal) -> Bool {
    // RFC 9112 §2.2: an empty line before a request is skipped.
    while bytes.count - start >= 2, bytes[start] == 13, bytes[start + 1] == 10 {
      skip(to: start + 2)
    }
    guard let end = endOfHead() else {
      guard bytes.count - start <= Limits.headBytes else {
        throw Refusal(431, "the request's head is too large")
      }
      return false
    }
    guard end - start <= Limits.headBytes else {
      throw Refusal(431, "the request's head is too large")
    }
    let head = try HeadReader.read(bytes[start..<end - 2], bodyBytesMax: bodyBytesMax)
    skip(to: end)
    request = head.request
    awaitsContinue = head.awaitsContinue
    chunkExcess = 0
    phase = head.isChunked ? .chunkSize : .body(left: head.length)
    return true
  }

  private mutating func endOfHead() -> Int? {
    var at = max(start + 3, scanned)
    while at < bytes.count {
      if bytes[at] == 10, bytes[at - 1] == 13, bytes[at - 2] == 10, bytes[at - 3] == 13 {
        return at + 1
      }
      at += 1
    }
    scanned = max(start, bytes.count)
    return nil
  }

  // MARK: Chunks (RFC 9112 §7.1)

  private mutating func readChunkSize() throws(Refusal) -> Bool {
    guard let line = try line(max: Limits.chunkLineBytes) else { return false }
    var size = 0
    var digits = 0
    for byte in bytes[line] {
      guard let digit = Self.hexDigit(byte) else { break }
      digits += 1
      guard digits <= 8 else { throw Refusal(400, "a chunk's size is malformed") }
      size = size << 4 | digit
    }
    guard digits > 0, digits == line.count || bytes[line.lowerBound + digits] == 0x3b,
      bytes[line].allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 9 })
    else { throw Refusal(400, "a chunk's size is malformed") }
    guard size <= bodyBytesMax - body.count else { throw Refusal(413, "the body is too large") }
    chunkExcess = max(0, chunkExcess + line.count + 2 - 16 - 2 * size)
    guard chunkExcess <= Limits.chunkExcessBytes else {
      throw Refusal(400, "the chunks bring too little data")
    }
    phase = size == 0 ? .trailer(taken: 0) : .chunk(left: size)
    return true
  }

  private static func hexDigit(_ byte: UInt8) -> Int? {
    switch byte {
    case 0x30...0x39: Int(byte) - 0x30
    case 0x41...0x46: Int(byte) - 0x41 + 10
    case 0x61...0x66: Int(byte) - 0x61 + 10
    default: nil
    }
  }
}
