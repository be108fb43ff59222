public import Basics

/// Cuts a stream of bytes into gRPC messages: one byte for compression, four for the length,
/// the message (grpc/doc/PROTOCOL-HTTP2.md).
public struct MessageReader: Sendable {
  /// A whole message inside the bytes that the reader was given or holds.
  public struct Message: Sendable {
    public var isCompressed: Bool
    public var body: Slice
  }

  public enum Step: Sendable {
    /// A message; its slice lies in the chunk when `isHeld` is false, else in `held`.
    case message(Message, isHeld: Bool)
    case needsMore
    case refused(Status)
  }

  /// Bytes kept until a message is whole; never more than one message and its prefix.
  public private(set) var held: [UInt8] = []
  private let bytesMax: Int
  private var heldIsDone = false

  /// `bytesMax` bounds the length that a prefix may announce.
  public init(bytesMax: Int) { self.bytesMax = bytesMax }

  /// Whether the stream ended inside a message.
  public var isInsideMessage: Bool { !held.isEmpty && !heldIsDone }

  /// Looks for the next message in `chunk` from `offset` on, which it moves past what it took.
  /// Copies only a message that spans chunks.
  public mutating func next(in chunk: RawSpan, from offset: inout Int) -> Step {
    if heldIsDone {
      held.removeAll(keepingCapacity: held.capacity <= 64 << 10)
      heldIsDone = false
    }
    if held.isEmpty {
      let left = chunk.byteCount - offset
      guard left > 0 else { return .needsMore }
      if left >= 5 {
        let size = Self.size(chunk, at: offset)
        if let refusal = refusal(chunk[offset], size) { return .refused(refusal) }
        if left - 5 >= size {
          let body = Slice(start: offset + 5, count: size)
          let flag = chunk[offset]
          offset += 5 + size
          return .message(Message(isCompressed: flag == 1, body: body), isHeld: false)
        }
      }
    }
    return hold(chunk, from: &offset)
  }

  private mutating func hold(_ chunk: RawSpan, from offset: inout Int) -> Step {
    take(chunk, from: &offset, upTo: 5)
    guard held.count >= 5 else { return .needsMore }
    let size = Self.size(held.rawSpan, at: 0)
    if let refusal = refusal(held[0], size) { return .refused(refusal) }
    take(chunk, from: &offset, upTo: 5 + size)
    guard held.count == 5 + size else { return .needsMore }
    heldIsDone = true
    let message = Message(isCompressed: held[0] == 1, body: Slice(start: 5, count: size))
    return .message(message, isHeld: true)
  }

  private mutating func take(_ chunk: RawSpan, from offset: inout Int, upTo count: Int) {
    let wanted = min(max(0, count - held.count), chunk.byteCount - offset)
    guard wanted > 0 else { return }
    held.append(contentsOf: chunk.extracting(offset..<offset + wanted))
    offset += wanted
  }

  private static func size(_ bytes: RawSpan, at offset: Int) -> Int {
    Int(bytes[offset + 1]) << 24 | Int(bytes[offset + 2]) << 16 | Int(bytes[offset + 3]) << 8
      | Int(bytes[offset + 4])
  }

  private func refusal(_ flag: UInt8, _ size: Int) -> Status? {
    if flag > 1 {
      return Status(.internalError, "grpc: received unexpected payload format \(flag)")
    }
    if size > bytesMax {
      return Status(
        .resourceExhausted, "grpc: received message larger than max (\(size) vs. \(bytesMax))")
    }
    return nil
  }
}

/// Appends the prefix of an uncompressed message of `count` bytes.
public func appendMessagePrefix(_ count: Int, to bytes: inout [UInt8]) {
  bytes.append(0)
  bytes.append(UInt8(truncatingIfNeeded: count >> 24))
  bytes.append(UInt8(truncatingIfNeeded: count >> 16))
  bytes.append(UInt8(truncatingIfNeeded: count >> 8))
  bytes.append(UInt8(truncatingIfNeeded: count))
}

/// Reads a `grpc-timeout` value, such as `100m`, in nanoseconds; nil for what is none.
public func timeoutNanoseconds(_ text: RawSpan) -> UInt64? {
  guard text.byteCount >= 2, text.byteCount <= 9 else { return nil }
  var amount: UInt64 = 0
  for i in 0..<text.byteCount - 1 {
    let digit = text[i]
    guard digit >= 0x30, digit <= 0x39 else { return nil }
    amount = amount * 10 + UInt64(digit - 0x30)
  }
  let unit: UInt64
  switch text[text.byteCount - 1] {
  case UInt8(ascii: "H"): unit = 3_600_000_000_000
  case UInt8(ascii: "M"): unit = 60_000_000_000
  case UInt8(ascii: "S"): unit = 1_000_000_000
  case UInt8(ascii: "m"): unit = 1_000_000
  case UInt8(ascii: "u"): unit = 1000
  case UInt8(ascii: "n"): unit = 1
  default: return nil
  }
  let (product, overflow) = amount.multipliedReportingOverflow(by: unit)
  return overflow ? .max : product
}
