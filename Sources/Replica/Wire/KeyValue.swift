public import Basics

/// mvccpb.KeyValue as it lies in a buffer.
public struct KeyValue: Sendable {
  public var key = Slice.empty
  public var value = Slice.empty
  public var createRevision: Int64 = 0
  public var modRevision: Int64 = 0
  public var version: Int64 = 0
  public var lease = LeaseID.none

  /// What stands for a key that is not there.
  public init() {}

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: key = try field.bytes
      case 2: createRevision = try field.signed
      case 3: modRevision = try field.signed
      case 4: version = try field.signed
      case 5: value = try field.bytes
      case 6: lease = LeaseID(try field.signed)
      default: break
      }
    }
  }
}

/// What etcdserverpb.ResponseHeader says.
public struct ResponseHeader: Equatable, Sendable {
  public var cluster: ClusterID
  public var member: NodeID
  public var revision: Int64
  public var term: Term

  public init(cluster: ClusterID, member: NodeID, revision: Int64, term: Term) {
    self.cluster = cluster
    self.member = member
    self.revision = revision
    self.term = term
  }

  /// Adds the header as field 1, its place in every response.
  public func encode(into bytes: inout [UInt8]) {
    let mark = bytes.beginMessage(1)
    bytes.appendField(1, cluster.rawValue)
    bytes.appendField(2, member.rawValue)
    bytes.appendField(3, revision)
    bytes.appendField(4, term.rawValue)
    bytes.endMessage(mark)
  }
}
