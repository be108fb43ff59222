internal import Basics

/// Reads what a client sends over a websocket (RFC 6455): its messages, whole.
public struct WebSocketReader: Sendable {
  public enum Step: Equatable, Sendable {
    /// Text or bytes: JSON either way.
    case message([UInt8])
    /// To be answered with the same bytes.
    case ping([UInt8])
    case closed
  }

  /// Why the connection has to end, as a status of RFC 6455 §7.4.1.
  public struct Fault: Error, Equatable, Sendable {
    public var status: UInt16
    public init(status: UInt16) { self.status = status }
  }

  private static let tooBig = Fault(status: 1009)
  private static let broken = Fault(status: 1002)

  private var bytes: [UInt8] = []
  /// Up to here `bytes` is used up.
  private var start = 0
  private var message: [UInt8] = []
  private var isInMessage = false
  private let messageBytesMax: Int

  public init(messageBytesMax: Int) { self.messageBytesMax = messageBytesMax }

  /// Bytes of a message that is not whole.
  public var heldBytes: Int { bytes.count - start + message.count }

  public mutating func receive(_ more: RawSpan) {
    bytes.removeFirst(start)
    start = 0
    bytes.append(contentsOf: more)
  }

  /// What comes next; nil when more bytes are needed.
  public mutating func next() throws(Fault) -> Step? {
    while let frame = try frame() {
      switch frame.code {
      case 0, 1, 2:
        guard (frame.code == 0) == isInMessage else { throw Self.broken }
        guard message.count + frame.payload.count <= messageBytesMax else { throw Self.tooBig }
        message += frame.payload
        isInMessage = !frame.isLast
        guard frame.isLast else { continue }
        defer { message = [] }
        return .message(message)
      case 8: return .closed
      case 9: return .ping(frame.payload)
      case 10: continue
      default: throw Self.broken
      }
    }
    return nil
  }

  private struct Frame {
    var code: UInt8
    var isLast: Bool
    var payload: [UInt8]
  }

  /// Takes a whole frame off, unmasked (§5.2).
  private mutating func frame() throws(Fault) -> Frame? {
    guard bytes.count - start >= 2 else { return nil }
    let (first, second) = (bytes[start], bytes[start + 1])
    let code = first & 15
    // No extension was agreed on, and a client masks what it sends.
    guard first & 0x70 == 0, second & 0x80 != 0 else { throw Self.broken }
    var place = start + 2
    var count = UInt64(second & 0x7f)
    if count >= 126 {
      let wide = count == 126 ? 2 : 8
      guard bytes.count >= place + wide else { return nil }
      count = bytes[place..<place + wide].reduce(0) { $0 << 8 | UInt64($1) }
      place += wide
    }
    if code >= 8, count > 125 || first & 0x80 == 0 { throw Self.broken }
    guard count <= UInt64(messageBytesMax) else { throw Self.tooBig }
    let end = place + 4 + Int(count)
    guard bytes.count >= end else { return nil }
    let mask = [UInt8](bytes[place..<place + 4])
    var payload = [UInt8](bytes[place + 4..<end])
    for at in payload.indices { payload[at] ^= mask[at & 3] }
    let isLast = first & 0x80 != 0
    start = end
    return Frame(code: code, isLast: isLast, payload: payload)
  }
}

/// What a server sends over a websocket.
public enum WebSocketFrame: UInt8, Sendable {
  case text = 1
  case close = 8
  case pong = 10

  /// Appends a whole frame.
  public func append(_ payload: RawSpan, to bytes: inout [UInt8]) {
    bytes.append(0x80 | rawValue)
    let count = payload.byteCount
    if count < 126 {
      bytes.append(UInt8(count))
    } else {
      let wide = count <= 0xffff ? 2 : 8
      bytes.append(wide == 2 ? 126 : 127)
      for shift in stride(from: 8 * (wide - 1), through: 0, by: -8) {
        bytes.append(UInt8(truncatingIfNeeded: count >> shift))
      }
    }
    bytes.append(contentsOf: payload)
  }

  /// What the `Sec-WebSocket-Key` of a request is hashed with by SHA-1 for the answer (§1.3).
  public static let salt = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
}

extension Request {
  /// The `Sec-WebSocket-Key` of a request that wants to become a websocket; nil for all others.
  public var webSocketKey: String? {
    guard method == "GET", !isOld, header("upgrade")?.lowercased() == "websocket",
      header("connection")?.lowercased().contains("upgrade") == true,
      header("sec-websocket-version") == "13"
    else { return nil }
    return header("sec-websocket-key")
  }
}
