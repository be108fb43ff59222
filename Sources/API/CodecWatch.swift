public import Basics

/// `etcdserverpb.WatchCreateRequest`
public struct WatchCreateRequestView: Hashable, Sendable {
  public var key = Slice.empty
  public var rangeEnd = Slice.empty
  public var startRevision: Int64 = 0
  public var progressNotify = false
  /// Filters; etcd ignores those that it does not know.
  public var noPut = false
  public var noDelete = false
  public var prevKV = false
  public var watchID: Int64 = 0
  public var fragment = false

  public init() {}

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: key = try reader.bytes(tag)
      case 2: rangeEnd = try reader.bytes(tag)
      case 3: startRevision = try reader.int64(tag)
      case 4: progressNotify = try reader.bool(tag)
      case 5 where tag.wire == .lengthDelimited:
        var packed = ProtoReader(source, in: try reader.bytes(tag))
        while !packed.isAtEnd {
          let filter = Int32(truncatingIfNeeded: try packed.varint())
          add(WatchCreateRequest.FilterType(rawValue: filter))
        }
      case 5: add(WatchCreateRequest.FilterType(rawValue: try reader.int32(tag)))
      case 6: prevKV = try reader.bool(tag)
      case 7: watchID = try reader.int64(tag)
      case 8: fragment = try reader.bool(tag)
      default: try reader.skip(tag)
      }
    }
  }

  private mutating func add(_ filter: WatchCreateRequest.FilterType) {
    if filter == .noPut { noPut = true }
    if filter == .noDelete { noDelete = true }
  }
}

/// `etcdserverpb.WatchRequest`
public enum WatchRequestView: Hashable, Sendable {
  case none
  case create(WatchCreateRequestView)
  case cancel(watchID: Int64)
  case progress

  public init(_ source: RawSpan) throws(DecodeError) {
    self = .none
    var reader = ProtoReader(source)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: self = .create(try WatchCreateRequestView(source, in: try reader.bytes(tag)))
      case 2: self = .cancel(watchID: try Self.watchID(source, in: try reader.bytes(tag)))
      case 3:
        var inner = ProtoReader(source, in: try reader.bytes(tag))
        while let tag = try inner.nextTag() { try inner.skip(tag) }
        self = .progress
      default: try reader.skip(tag)
      }
    }
  }

  private static func watchID(
    _ source: RawSpan, in slice: Slice
  ) throws(DecodeError) -> Int64 {
    var id: Int64 = 0
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      if tag.field == 1 { id = try reader.int64(tag) } else { try reader.skip(tag) }
    }
    return id
  }
}
