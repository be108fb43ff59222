public import Basics

/// `etcdserverpb.ResponseHeader`
public struct ResponseHeaderView: Hashable, Sendable {
  public var clusterID: ClusterID
  public var memberID: NodeID
  public var revision: Int64
  public var raftTerm: Term

  public init(clusterID: ClusterID, memberID: NodeID, revision: Int64, raftTerm: Term) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.revision = revision
    self.raftTerm = raftTerm
  }

  /// The header inside a transaction's answers: only a revision.
  public init(revision: Int64) {
    self.init(clusterID: ClusterID(0), memberID: .none, revision: revision, raftTerm: .zero)
  }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    self.init(revision: 0)
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: clusterID = ClusterID(try reader.uint64(tag))
      case 2: memberID = NodeID(try reader.uint64(tag))
      case 3: revision = try reader.int64(tag)
      case 4: raftTerm = Term(try reader.uint64(tag))
      default: try reader.skip(tag)
      }
    }
  }

  /// Bytes of the encoded header.
  public var byteCount: Int {
    func size(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varintSize(value) }
    return size(clusterID.rawValue) + size(memberID.rawValue)
      + size(UInt64(bitPattern: revision)) + size(raftTerm.rawValue)
  }

  public func encode(into bytes: inout [UInt8]) {
    bytes.appendField(1, clusterID.rawValue)
    bytes.appendField(2, memberID.rawValue)
    bytes.appendField(3, revision)
    bytes.appendField(4, raftTerm.rawValue)
  }
}

/// The answers, appended in the order of their fields. Each begins with its header; none but the
/// caller's own lists are read or copied.
extension [UInt8] {
  /// Field 1 of every answer.
  public mutating func appendHeader(_ header: ResponseHeaderView) {
    appendTag(1, .lengthDelimited)
    appendVarint(UInt64(header.byteCount))
    header.encode(into: &self)
  }

  /// A whole `PutResponse`; an empty `prevKV` is left out.
  public mutating func appendPutResponse(_ header: ResponseHeaderView, prevKV: RawSpan) {
    appendHeader(header)
    appendField(2, prevKV)
  }

  /// A `RangeResponse` is its header, then the `KeyValue`s as elements of field
  /// `rangeResponseKVs`, then this.
  public mutating func appendRangeResponseTail(more: Bool, count: Int64) {
    appendField(3, more)
    appendField(4, count)
  }

  /// A `DeleteRangeResponse` but for its previous `KeyValue`s, which follow as elements of
  /// field `deleteRangeResponsePrevKVs`.
  public mutating func appendDeleteRangeResponse(_ header: ResponseHeaderView, deleted: Int64) {
    appendHeader(header)
    appendField(2, deleted)
  }

  /// A whole `TxnResponse`. `responses` is what `beginResponseOp` and `endResponseOp` built.
  public mutating func appendTxnResponse(
    _ header: ResponseHeaderView, succeeded: Bool, responses: RawSpan
  ) {
    appendHeader(header)
    appendField(2, succeeded)
    append(contentsOf: responses)
  }

  /// Begins an answer inside a `TxnResponse`; the caller appends the response message of
  /// `kind`, then calls `endResponseOp`.
  public mutating func beginResponseOp(
    _ kind: ResponseOpKind, expecting: Int
  ) -> OpenResponseOp {
    let inside = Swift.max(0, expecting)
    let outer = beginField(3, expecting: 1 + varintSize(UInt64(inside)) + inside)
    return OpenResponseOp(outer: outer, inner: beginField(kind.rawValue, expecting: inside))
  }

  public mutating func endResponseOp(_ open: OpenResponseOp) {
    endField(open.inner)
    endField(open.outer)
  }

  /// A whole `LeaseKeepAliveResponse`; `ttl` in seconds, 0 or less when the lease is gone.
  public mutating func appendLeaseKeepAliveResponse(
    _ header: ResponseHeaderView, id: LeaseID, ttl: Int64
  ) {
    appendHeader(header)
    appendField(2, id.rawValue)
    appendField(3, ttl)
  }
}

/// Field numbers of lists that callers append themselves, with `appendMessage`.
public enum ResponseField {
  public static let rangeResponseKVs = 2
  public static let deleteRangeResponsePrevKVs = 3
  public static let watchResponseEvents = 11
}

/// What a `ResponseOp` holds; the raw value is its field.
public enum ResponseOpKind: Int, Sendable {
  case range = 1
  case put = 2
  case deleteRange = 3
  case txn = 4
}

/// An answer of a transaction that was begun.
public struct OpenResponseOp: Sendable {
  fileprivate var outer: OpenField
  fileprivate var inner: OpenField
}
