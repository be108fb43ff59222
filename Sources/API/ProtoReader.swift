public import Basics

/// How a field's value is laid out on the wire.
public enum WireType: UInt8, Sendable {
  case varint = 0
  case fixed64 = 1
  case lengthDelimited = 2
  case startGroup = 3
  case fixed32 = 5
}

/// What stands before each value: which field, and how it is laid out.
public struct ProtoTag: Hashable, Sendable {
  public var field: Int
  public var wire: WireType
  /// Where the tag begins in the buffer.
  public var offset: Int
}

/// Reads protobuf's wire format inside a buffer; allocates nothing. It accepts what etcd's own
/// decoders accept: numbers of up to 10 bytes with the excess bits dropped, text in any encoding,
/// unknown fields and groups, which `skip` passes over.
public struct ProtoReader: ~Escapable {
  private let source: RawSpan
  /// The next byte to be read, from the beginning of the buffer.
  public private(set) var offset: Int
  private let end: Int

  /// Reads all of `source`, which holds at most `MessageLimits.bytesMax` bytes; what lies beyond
  /// reads as truncated.
  @_lifetime(copy source)
  public init(_ source: RawSpan) {
    self.source = source
    offset = 0
    end = min(source.byteCount, MessageLimits.bytesMax)
  }

  /// Reads the message at `slice` of `source`; offsets and slices stay relative to `source`.
  @_lifetime(copy source)
  public init(_ source: RawSpan, in slice: Slice) {
    precondition(slice.range.upperBound <= source.byteCount)
    self.source = source
    offset = slice.range.lowerBound
    end = slice.range.upperBound
  }

  public var isAtEnd: Bool { offset == end }

  @inline(__always)
  private func byte(_ at: Int) -> UInt8 {
    unsafe source.unsafeLoad(fromByteOffset: at, as: UInt8.self)
  }

  /// The next tag, or nil at the end of the message.
  public mutating func nextTag() throws(DecodeError) -> ProtoTag? {
    guard offset < end else { return nil }
    let start = offset
    let raw = try varint()
    let field = Int(Int32(truncatingIfNeeded: raw >> 3))
    guard raw & 7 != 4 else { throw DecodeError(.unexpectedEndGroup, at: start) }
    guard field > 0 else { throw DecodeError(.illegalTag, at: start) }
    guard let wire = WireType(rawValue: UInt8(raw & 7)) else {
      throw DecodeError(.wrongWireType, at: start)
    }
    return ProtoTag(field: field, wire: wire, offset: start)
  }

  /// The next number.
  public mutating func varint() throws(DecodeError) -> UInt64 {
    if offset < end {
      let first = byte(offset)
      if first < 0x80 {
        offset += 1
        return UInt64(first)
      }
    }
    return try longVarint()
  }

  private mutating func longVarint() throws(DecodeError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    var at = offset
    while shift < 64 {
      guard at < end else { throw DecodeError(.truncated, at: at) }
      let next = byte(at)
      at += 1
      value |= UInt64(next & 0x7f) << shift
      if next < 0x80 {
        offset = at
        return value
      }
      shift += 7
    }
    throw DecodeError(.overlongVarint, at: offset)
  }

  /// The value of a `uint64` field.
  public mutating func uint64(_ tag: ProtoTag) throws(DecodeError) -> UInt64 {
    guard tag.wire == .varint else { throw DecodeError(.wrongWireType, at: tag.offset) }
    return try varint()
  }

  /// The value of an `int64` field.
  public mutating func int64(_ tag: ProtoTag) throws(DecodeError) -> Int64 {
    Int64(bitPattern: try uint64(tag))
  }

  /// The value of an `int32` or enum field: the low 32 bits.
  public mutating func int32(_ tag: ProtoTag) throws(DecodeError) -> Int32 {
    Int32(truncatingIfNeeded: try uint64(tag))
  }

  /// The value of a `bool` field.
  public mutating func bool(_ tag: ProtoTag) throws(DecodeError) -> Bool {
    try uint64(tag) != 0
  }

  /// Where the value of a `bytes`, `string` or message field lies in the buffer.
  public mutating func bytes(_ tag: ProtoTag) throws(DecodeError) -> Slice {
    guard tag.wire == .lengthDelimited else { throw DecodeError(.wrongWireType, at: tag.offset) }
    let start = offset
    let length = try varint()
    guard length <= UInt64(MessageLimits.bytesMax) else {
      throw DecodeError(.illegalLength, at: start)
    }
    guard length <= UInt64(end - offset) else { throw DecodeError(.truncated, at: end) }
    let slice = Slice(start: offset, count: Int(length))
    offset += Int(length)
    return slice
  }

  /// Passes over the value of an unknown field. Groups may nest as deep as they like: they are
  /// counted, not recursed into.
  public mutating func skip(_ tag: ProtoTag) throws(DecodeError) {
    try skipValue(tag.wire)
    guard tag.wire == .startGroup else { return }
    var open = 1
    while open > 0 {
      guard offset < end else { throw DecodeError(.truncated, at: end) }
      let start = offset
      let raw = try varint()
      switch raw & 7 {
      case 3: open += 1
      case 4: open -= 1
      default:
        guard let wire = WireType(rawValue: UInt8(raw & 7)) else {
          throw DecodeError(.wrongWireType, at: start)
        }
        try skipValue(wire)
      }
    }
  }

  private mutating func skipValue(_ wire: WireType) throws(DecodeError) {
    switch wire {
    case .varint: _ = try varint()
    case .fixed64: try advance(8)
    case .fixed32: try advance(4)
    case .lengthDelimited:
      _ = try bytes(ProtoTag(field: 1, wire: .lengthDelimited, offset: offset))
    case .startGroup: break
    }
  }

  private mutating func advance(_ count: Int) throws(DecodeError) {
    guard count <= end - offset else { throw DecodeError(.truncated, at: end) }
    offset += count
  }
}
