public import Basics

/// `mvccpb.KeyValue`
public struct KeyValueView: Hashable, Sendable {
  public var key = Slice.empty
  public var createRevision: Int64 = 0
  public var modRevision: Int64 = 0
  public var version: Int64 = 0
  public var value = Slice.empty
  public var lease = LeaseID.none

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source)) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice))
  }

  private init(_ start: consuming ProtoReader) throws(DecodeError) {
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: key = try reader.bytes(tag)
      case 2: createRevision = try reader.int64(tag)
      case 3: modRevision = try reader.int64(tag)
      case 4: version = try reader.int64(tag)
      case 5: value = try reader.bytes(tag)
      case 6: lease = LeaseID(try reader.int64(tag))
      default: try reader.skip(tag)
      }
    }
  }

  /// Appends the message; its slices lie in `source`.
  public func encode(from source: RawSpan, into bytes: inout [UInt8]) {
    bytes.appendField(1, source.extracting(key))
    bytes.appendField(2, createRevision)
    bytes.appendField(3, modRevision)
    bytes.appendField(4, version)
    bytes.appendField(5, source.extracting(value))
    bytes.appendField(6, lease.rawValue)
  }
}

/// `mvccpb.Event`
public struct EventView: Hashable, Sendable {
  public var type = Event.EventType.put
  /// The encoded `KeyValue`s.
  public var kv: Slice?
  public var prevKV: Slice?

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source)) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice))
  }

  private init(_ start: consuming ProtoReader) throws(DecodeError) {
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: type = Event.EventType(rawValue: try reader.int32(tag))
      case 2: kv = try reader.bytes(tag)
      case 3: prevKV = try reader.bytes(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

extension [UInt8] {
  /// Appends an `Event` as the element of repeated field `field` (11 in a `WatchResponse`).
  /// `kv` and `prevKV` are encoded `KeyValue`s; an empty `prevKV` is left out.
  public mutating func appendEvent(
    _ field: Int, type: Event.EventType, kv: RawSpan, prevKV: RawSpan
  ) {
    appendTag(field, .lengthDelimited)
    appendVarint(UInt64(eventSize(type: type, kv: kv.byteCount, prevKV: prevKV.byteCount)))
    appendField(1, Int64(type.rawValue))
    appendMessage(2, kv)
    appendField(3, prevKV)
  }
}

/// Bytes of an encoded `Event` whose parts have `kv` and `prevKV` bytes, without what
/// introduces it as an element.
public func eventSize(type: Event.EventType, kv: Int, prevKV: Int) -> Int {
  let typeSize = type.rawValue == 0 ? 0 : 1 + varintSize(UInt64(bitPattern: Int64(type.rawValue)))
  let prevSize = prevKV == 0 ? 0 : delimitedSize(3, prevKV)
  return typeSize + delimitedSize(2, kv) + prevSize
}

/// Bytes of a length-delimited field of `count` bytes, with what introduces it.
public func delimitedSize(_ field: Int, _ count: Int) -> Int {
  varintSize(UInt64(field) << 3) + varintSize(UInt64(count)) + count
}
