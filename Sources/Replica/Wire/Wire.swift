public import Basics

/// Bytes that are not the protobuf message they should be.
public enum WireError: Error, Equatable, Sendable {
  case malformed
}

/// One field of a protobuf message: its number and, by its kind, a number or a stretch of bytes.
public struct WireField {
  public var number: Int
  var kind: UInt8
  var value: UInt64
  var slice: Slice

  /// The value of a `uint64` field; the wrong kind throws.
  public var unsigned: UInt64 {
    get throws(WireError) {
      guard kind == 0 else { throw .malformed }
      return value
    }
  }

  /// The value of an `int64` or `int32` field.
  public var signed: Int64 {
    get throws(WireError) { Int64(bitPattern: try unsigned) }
  }

  /// The value of a `bool` field.
  public var bool: Bool {
    get throws(WireError) { try unsigned != 0 }
  }

  /// Where the bytes of a `bytes`, `string` or message field lie.
  public var bytes: Slice {
    get throws(WireError) {
      guard kind == 2 else { throw .malformed }
      return slice
    }
  }
}

/// A walk over the fields of one message inside a buffer. Copies nothing; slices count from
/// the buffer's start.
public struct WireCursor {
  private var offset: Int
  private let end: Int

  public init(_ message: Slice) {
    offset = message.range.lowerBound
    end = message.range.upperBound
  }

  /// The whole of a buffer.
  public init(all bytes: RawSpan) {
    offset = 0
    end = bytes.byteCount
  }

  /// The next field, or nil at the end.
  public mutating func next(_ bytes: RawSpan) throws(WireError) -> WireField? {
    guard offset < end else { return nil }
    guard end <= bytes.byteCount else { throw .malformed }
    let key = try varint(bytes)
    let number = key >> 3
    guard number > 0, number <= 0x1fff_ffff else { throw .malformed }
    var field = WireField(
      number: Int(number), kind: UInt8(key & 7), value: 0, slice: .empty)
    switch field.kind {
    case 0: field.value = try varint(bytes)
    case 1: try skip(8)
    case 2:
      let count = try varint(bytes)
      guard count <= UInt64(end - offset) else { throw .malformed }
      field.slice = Slice(start: offset, count: Int(count))
      offset += Int(count)
    case 5: try skip(4)
    default: throw .malformed
    }
    return field
  }

  private mutating func skip(_ count: Int) throws(WireError) {
    guard end - offset >= count else { throw .malformed }
    offset += count
  }

  private mutating func varint(_ bytes: RawSpan) throws(WireError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while offset < end, shift < 64 {
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 {
        guard shift < 63 || byte <= 1 else { throw .malformed }
        return value
      }
      shift += 7
    }
    throw .malformed
  }
}

extension [UInt8] {
  /// Adds a varint.
  public mutating func appendVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(rest))
  }

  /// Adds a number unless it is zero, as proto3 leaves it out.
  public mutating func appendField(_ number: Int, _ value: UInt64) {
    guard value != 0 else { return }
    appendVarint(UInt64(number) << 3)
    appendVarint(value)
  }

  /// Adds a signed number unless it is zero.
  public mutating func appendField(_ number: Int, _ value: Int64) {
    appendField(number, UInt64(bitPattern: value))
  }

  /// Adds a flag unless it is false.
  public mutating func appendField(_ number: Int, _ value: Bool) {
    appendField(number, value ? 1 as UInt64 : 0)
  }

  /// Adds bytes unless there are none.
  public mutating func appendField(_ number: Int, _ bytes: RawSpan) {
    guard bytes.byteCount > 0 else { return }
    appendMessage(number, bytes)
  }

  /// Adds text unless it is empty.
  public mutating func appendField(_ number: Int, _ text: String) {
    guard !text.isEmpty else { return }
    appendVarint(UInt64(number) << 3 | 2)
    appendVarint(UInt64(text.utf8.count))
    append(contentsOf: text.utf8)
  }

  /// Adds an encoded message, an empty one too.
  public mutating func appendMessage(_ number: Int, _ bytes: RawSpan) {
    appendVarint(UInt64(number) << 3 | 2)
    appendVarint(UInt64(bytes.byteCount))
    append(contentsOf: bytes)
  }

  /// Starts a message whose length is not known yet; give the answer to `endMessage`.
  public mutating func beginMessage(_ number: Int) -> Int {
    appendVarint(UInt64(number) << 3 | 2)
    return count
  }

  /// Ends the message begun at `mark`: moves it by the bytes that its length needs.
  public mutating func endMessage(_ mark: Int) {
    var length: [UInt8] = []
    length.appendVarint(UInt64(count - mark))
    insert(contentsOf: length, at: mark)
  }
}
