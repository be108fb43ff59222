internal import API
internal import Basics
public import Membership
public import Raft

/// etcdserverpb.Request: what 3.5 puts into the log for member attributes and cluster version.
public enum V2Wire {
  /// Reads a request; unknown fields are passed over, known ones of another kind are not.
  static func decode(_ message: Slice, in bytes: RawSpan) throws(DecodeError) -> V2Request {
    var request = V2Request(id: 0, method: "", path: "", value: "")
    var reader = ProtoReader(bytes, in: message)
    func text(_ slice: Slice) -> String {
      String(decoding: bytes.extracting(slice).copied(), as: UTF8.self)
    }
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: request.id = try reader.uint64(tag)
      case 2: request.method = text(try reader.bytes(tag))
      case 3: request.path = text(try reader.bytes(tag))
      case 4: request.value = text(try reader.bytes(tag))
      case 6: _ = try reader.bytes(tag)
      case 5, 7...17: _ = try reader.uint64(tag)
      default: try reader.skip(tag)
      }
    }
    return request
  }

  /// The data of an entry: every field that etcd always writes, zeros too (proto2).
  public static func encode(_ request: V2Request) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendAlways(1, request.id)
    for (field, text) in [(2, request.method), (3, request.path), (4, request.value)] {
      bytes.appendMessage(field, [UInt8](text.utf8).rawSpan)
    }
    bytes.appendAlways(5, 0)
    bytes.appendMessage(6, RawSpan())
    bytes.appendAlways(7, 0)
    for field in 9...16 { bytes.appendAlways(field, 0) }
    return bytes
  }
}

extension [Entry] {
  /// What the log of a new cluster begins with: its members' configuration changes, in term 1.
  /// etcd: `startNode`.
  public init(founding members: [Membership.Member]) {
    self = members.enumerated().map { place, member in
      Entry(
        term: Term(1), index: LogIndex(UInt64(place + 1)), kind: .confChange,
        data: MemberChange.add(member).confChange(id: 0).encoded(as: .confChange))
    }
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
  public init(_ change: ConfChange) throws(MemberRecordError) {
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
