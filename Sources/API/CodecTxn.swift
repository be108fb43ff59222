public import Basics

/// `etcdserverpb.Compare`
public struct CompareView: Hashable, Sendable {
  public enum Target: Hashable, Sendable {
    case version(Int64)
    case createRevision(Int64)
    case modRevision(Int64)
    case value(Slice)
    case lease(LeaseID)
  }
  public var result = Compare.CompareResult.equal
  public var target = Compare.CompareTarget.version
  public var key = Slice.empty
  public var rangeEnd = Slice.empty
  /// What to compare with; nil when the request holds none. It need not fit `target`.
  public var union: Target?

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source)) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice))
  }

  private init(_ start: consuming ProtoReader) throws(DecodeError) {
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: result = Compare.CompareResult(rawValue: try reader.int32(tag))
      case 2: target = Compare.CompareTarget(rawValue: try reader.int32(tag))
      case 3: key = try reader.bytes(tag)
      case 4: union = .version(try reader.int64(tag))
      case 5: union = .createRevision(try reader.int64(tag))
      case 6: union = .modRevision(try reader.int64(tag))
      case 7: union = .value(try reader.bytes(tag))
      case 8: union = .lease(LeaseID(try reader.int64(tag)))
      case 64: rangeEnd = try reader.bytes(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

/// `etcdserverpb.RequestOp`
public enum RequestOpView: Hashable, Sendable {
  /// No request: etcd refuses such an operation at the door, with the error of a missing key.
  case none
  case range(RangeRequestView)
  case put(PutRequestView)
  case deleteRange(DeleteRangeRequestView)
  /// A transaction inside; not read yet, so it may still prove malformed.
  case txn(Slice)

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    self = .none
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: self = .range(try RangeRequestView(source, in: try reader.bytes(tag)))
      case 2: self = .put(try PutRequestView(source, in: try reader.bytes(tag)))
      case 3: self = .deleteRange(try DeleteRangeRequestView(source, in: try reader.bytes(tag)))
      case 4: self = .txn(try reader.bytes(tag))
      default: try reader.skip(tag)
      }
    }
  }
}

/// `etcdserverpb.TxnRequest`, in arrays that `decode` uses again.
public struct TxnRequestView: Hashable, Sendable {
  public private(set) var compares: [CompareView] = []
  public private(set) var success: [RequestOpView] = []
  public private(set) var failure: [RequestOpView] = []

  public init() {}

  public mutating func decode(_ source: RawSpan) throws(DecodeError) {
    try decode(ProtoReader(source), source)
  }

  /// Reads the transaction at `slice`, not those inside of it: see `checkNesting`. Allocates
  /// only when it holds more than any before.
  public mutating func decode(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try decode(ProtoReader(source, in: slice), source)
  }

  private mutating func decode(
    _ start: consuming ProtoReader, _ source: RawSpan
  ) throws(DecodeError) {
    compares.removeAll(keepingCapacity: true)
    success.removeAll(keepingCapacity: true)
    failure.removeAll(keepingCapacity: true)
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: compares.append(try CompareView(source, in: try reader.bytes(tag)))
      case 2: success.append(try RequestOpView(source, in: try reader.bytes(tag)))
      case 3: failure.append(try RequestOpView(source, in: try reader.bytes(tag)))
      default: try reader.skip(tag)
      }
    }
  }

  /// Whether all of a transaction, with those inside, can be read by every member: to be asked
  /// before its bytes go into the log. Linear; allocates nothing.
  public static func checkNesting(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try check(source, in: slice, depth: 1)
  }

  private static func check(
    _ source: RawSpan, in slice: Slice, depth: Int
  ) throws(DecodeError) {
    guard depth <= MessageLimits.depthMax / 2 else {
      throw DecodeError(.tooDeep, at: Int(slice.start))
    }
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: _ = try CompareView(source, in: try reader.bytes(tag))
      case 2, 3: try checkOperation(source, in: try reader.bytes(tag), depth: depth)
      default: try reader.skip(tag)
      }
    }
  }

  private static func checkOperation(
    _ source: RawSpan, in slice: Slice, depth: Int
  ) throws(DecodeError) {
    // All that it holds counts, also what a later one replaces: etcd decodes them all.
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: _ = try RangeRequestView(source, in: try reader.bytes(tag))
      case 2: _ = try PutRequestView(source, in: try reader.bytes(tag))
      case 3: _ = try DeleteRangeRequestView(source, in: try reader.bytes(tag))
      case 4: try check(source, in: try reader.bytes(tag), depth: depth + 1)
      default: try reader.skip(tag)
      }
    }
  }
}
