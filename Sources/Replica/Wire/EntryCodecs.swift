public import Basics
public import Membership
public import Raft

/// etcdserverpb.Request: what 3.5 puts into the log for member attributes and cluster version.
public enum V2Wire {
  /// Reads a request; unknown fields are passed over.
  public static func decode(
    _ message: Slice, in bytes: RawSpan
  ) throws(WireError) -> V2Request {
    var request = V2Request(id: 0, method: "", path: "", value: "")
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: request.id = try field.unsigned
      case 2: request.method = try text(field, bytes)
      case 3: request.path = try text(field, bytes)
      case 4: request.value = try text(field, bytes)
      case 6: _ = try field.bytes
      case 5, 7...17: _ = try field.unsigned
      default: break
      }
    }
    return request
  }

  private static func text(_ field: WireField, _ bytes: RawSpan) throws(WireError) -> String {
    String(decoding: bytes.extracting(try field.bytes).copied(), as: UTF8.self)
  }

  /// The data of an entry: every field that etcd always writes, zeros too (proto2).
  public static func encode(_ request: V2Request) -> [UInt8] {
    var bytes: [UInt8] = []
    func number(_ field: UInt64, _ value: UInt64) {
      bytes.appendVarint(field << 3)
      bytes.appendVarint(value)
    }
    func text(_ field: Int, _ value: String) {
      bytes.appendMessage(field, [UInt8](value.utf8).rawSpan)
    }
    number(1, request.id)
    text(2, request.method)
    text(3, request.path)
    text(4, request.value)
    number(5, 0)
    text(6, "")
    number(7, 0)
    for field in 9...16 { number(UInt64(field), 0) }
    return bytes
  }
}

extension MemberChange {
  /// The change as Raft takes it, with the proposer's `id`.
  public func confChange(id: UInt64) -> ConfChange {
    let action: ConfChange.Action =
      switch kind {
      case .addNode: .addVoter
      case .removeNode: .remove
      case .updateNode: .update
      case .addLearnerNode: .addLearner
      }
    return ConfChange(
      id: id, transition: .auto, changes: [.init(action, node)], context: context)
  }

  /// Reads Raft's change of one member. Throws when it is of several or its context is no record.
  init(_ change: ConfChange) throws(MemberRecordError) {
    guard change.changes.count == 1 else { throw .malformed }
    let kind: Kind =
      switch change.changes[0].action {
      case .addVoter: .addNode
      case .remove: .removeNode
      case .update: .updateNode
      case .addLearner: .addLearnerNode
      }
    try self.init(kind: kind, node: change.changes[0].node, context: change.context)
  }
}
