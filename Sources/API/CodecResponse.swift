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

extension [UInt8] {
  /// Field 1 of every answer.
  public mutating func appendHeader(_ header: ResponseHeaderView) {
    appendTag(1, .lengthDelimited)
    appendVarint(UInt64(header.byteCount))
    header.encode(into: &self)
  }
}
