internal import Basics

/// protobuf's wire format, appended. Fields are to be written in the order of their numbers, as
/// etcd does. `field` is a number from 1 to 2^28 - 1.
extension [UInt8] {
  /// A number. 1 to 10 bytes.
  public mutating func appendVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(rest))
  }

  public mutating func appendTag(_ field: Int, _ wire: WireType) {
    appendVarint(UInt64(field) << 3 | UInt64(wire.rawValue))
  }

  /// A number field, even when it is zero, as proto2 messages of etcd have them.
  public mutating func appendAlways(_ field: Int, _ value: UInt64) {
    appendTag(field, .varint)
    appendVarint(value)
  }

  /// A number field; nothing when zero.
  public mutating func appendField(_ field: Int, _ value: UInt64) {
    if value != 0 { appendAlways(field, value) }
  }

  /// A number field; nothing when zero. Also for `int32` and enums, widened.
  public mutating func appendField(_ field: Int, _ value: Int64) {
    if value != 0 { appendAlways(field, UInt64(bitPattern: value)) }
  }

  /// A `bool` field; nothing when false.
  public mutating func appendField(_ field: Int, _ value: Bool) {
    if value { appendAlways(field, 1) }
  }

  /// A `bytes` or `string` field; nothing when empty.
  public mutating func appendField(_ field: Int, _ value: RawSpan) {
    if !value.isEmpty { appendMessage(field, value) }
  }

  /// A length-delimited field, even when it is empty: an encoded message, or an element.
  public mutating func appendMessage(_ field: Int, _ value: RawSpan) {
    appendTag(field, .lengthDelimited)
    appendVarint(UInt64(value.byteCount))
    append(contentsOf: value)
  }

  /// Begins a length-delimited field whose content the caller appends, then ends with
  /// `endField`. The right guess of `expecting` bytes saves moving the content.
  public mutating func beginField(_ field: Int, expecting: Int) -> OpenField {
    appendTag(field, .lengthDelimited)
    let reserved = varintSize(UInt64(Swift.max(0, expecting)))
    for _ in 0..<reserved { append(0) }
    return OpenField(start: count, reserved: reserved)
  }

  /// Writes the length of what was appended since `beginField`, in its shortest form.
  public mutating func endField(_ open: OpenField) {
    let length = count - open.start
    precondition(length >= 0)
    let needed = varintSize(UInt64(length))
    if needed > open.reserved {
      insert(contentsOf: repeatElement(0, count: needed - open.reserved), at: open.start)
    } else if needed < open.reserved {
      removeSubrange(open.start - (open.reserved - needed)..<open.start)
    }
    var rest = UInt64(length)
    var at = open.start - open.reserved
    while rest >= 0x80 {
      self[at] = UInt8(truncatingIfNeeded: rest) | 0x80
      rest >>= 7
      at += 1
    }
    self[at] = UInt8(rest)
  }
}

/// A field that was begun: where its content starts, and how many bytes wait for the length.
public struct OpenField: Sendable {
  fileprivate var start: Int
  fileprivate var reserved: Int

  fileprivate init(start: Int, reserved: Int) {
    self.start = start
    self.reserved = reserved
  }
}

/// Bytes of a number on the wire: 1 to 10.
public func varintSize(_ value: UInt64) -> Int {
  (70 - (value | 1).leadingZeroBitCount) / 7
}
