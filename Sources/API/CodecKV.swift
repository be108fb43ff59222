public import Basics

/// The views of this module are hot messages as plain data: numbers, and `Slice`s into the buffer
/// that they were read from. Reading one allocates nothing and copies nothing. They accept and
/// refuse what etcd's decoders do: unknown fields are passed over, of a field sent twice the last
/// counts, text may be in any encoding.

/// `etcdserverpb.PutRequest`
public struct PutRequestView: Hashable, Sendable {
  public var key = Slice.empty
  public var value = Slice.empty
  public var lease = LeaseID.none
  public var prevKV = false
  public var ignoreValue = false
  public var ignoreLease = false

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
      case 2: value = try reader.bytes(tag)
      case 3: lease = LeaseID(try reader.int64(tag))
      case 4: prevKV = try reader.bool(tag)
      case 5: ignoreValue = try reader.bool(tag)
      case 6: ignoreLease = try reader.bool(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

/// `etcdserverpb.RangeRequest`
public struct RangeRequestView: Hashable, Sendable {
  public var key = Slice.empty
  public var rangeEnd = Slice.empty
  public var limit: Int64 = 0
  public var revision: Int64 = 0
  public var sortOrder = RangeRequest.SortOrder.none
  public var sortTarget = RangeRequest.SortTarget.key
  public var serializable = false
  public var keysOnly = false
  public var countOnly = false
  public var minModRevision: Int64 = 0
  public var maxModRevision: Int64 = 0
  public var minCreateRevision: Int64 = 0
  public var maxCreateRevision: Int64 = 0

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
      case 2: rangeEnd = try reader.bytes(tag)
      case 3: limit = try reader.int64(tag)
      case 4: revision = try reader.int64(tag)
      case 5: sortOrder = RangeRequest.SortOrder(rawValue: try reader.int32(tag))
      case 6: sortTarget = RangeRequest.SortTarget(rawValue: try reader.int32(tag))
      case 7: serializable = try reader.bool(tag)
      case 8: keysOnly = try reader.bool(tag)
      case 9: countOnly = try reader.bool(tag)
      case 10: minModRevision = try reader.int64(tag)
      case 11: maxModRevision = try reader.int64(tag)
      case 12: minCreateRevision = try reader.int64(tag)
      case 13: maxCreateRevision = try reader.int64(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

/// `etcdserverpb.DeleteRangeRequest`
public struct DeleteRangeRequestView: Hashable, Sendable {
  public var key = Slice.empty
  public var rangeEnd = Slice.empty
  public var prevKV = false

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
      case 2: rangeEnd = try reader.bytes(tag)
      case 3: prevKV = try reader.bool(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

/// `etcdserverpb.CompactionRequest`
public struct CompactionRequestView: Hashable, Sendable {
  public var revision: Int64 = 0
  public var physical = false

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source)) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice))
  }

  private init(_ start: consuming ProtoReader) throws(DecodeError) {
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: revision = try reader.int64(tag)
      case 2: physical = try reader.bool(tag)
      default: try reader.skip(tag)
      }
    }
  }
}
