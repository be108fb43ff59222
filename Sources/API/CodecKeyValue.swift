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
