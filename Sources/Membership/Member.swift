public import Basics

/// A member of the cluster as membership records it. etcd: `membership.Member`.
public struct Member: Equatable, Sendable {
  public var id: NodeID
  /// Empty until the member has started and published itself.
  public var name: String
  public var peerURLs: [String]
  public var clientURLs: [String]
  /// A learner replicates without voting.
  public var isLearner: Bool

  public init(
    id: NodeID, name: String, peerURLs: [String], clientURLs: [String], isLearner: Bool
  ) {
    self.id = id
    self.name = name
    self.peerURLs = peerURLs
    self.clientURLs = clientURLs
    self.isLearner = isLearner
  }

  /// Whether the member has ever started.
  public var isStarted: Bool { !name.isEmpty }
}

/// What the record of a member is refused for.
public enum MemberRecordError: Error, Equatable {
  case malformed
}

extension Member {
  private static func list(_ texts: [String]) -> JSON { .array(texts.map { .string($0) }) }

  /// `{"peerURLs":[…],"isLearner":true}`: the raft half of the record.
  var raftAttributes: [JSON.Field] {
    var fields = [JSON.Field("peerURLs", peerURLs.isEmpty ? .null : Member.list(peerURLs))]
    if isLearner { fields.append(JSON.Field("isLearner", .bool(true))) }
    return fields
  }

  /// `{"name":"…","clientURLs":[…]}`: what the member publishes of itself.
  public var attributes: [JSON.Field] {
    var fields: [JSON.Field] = []
    if !name.isEmpty { fields.append(JSON.Field("name", .string(name))) }
    if !clientURLs.isEmpty { fields.append(JSON.Field("clientURLs", Member.list(clientURLs))) }
    return fields
  }

  /// The whole record: the context of a configuration change, the row of the members bucket.
  public var json: JSON {
    .object([JSON.Field("id", .integer(id.rawValue))] + raftAttributes + attributes)
  }

  /// Reads a record; fields that are missing or null stay empty, unknown ones are ignored.
  public init(_ json: JSON) throws(MemberRecordError) {
    guard case .object = json else { throw .malformed }
    self.init(
      id: .none, name: "", peerURLs: [], clientURLs: [], isLearner: false)
    if let id = json["id"], id != .null {
      guard let value = id.unsigned else { throw .malformed }
      self.id = NodeID(value)
    }
    try updateRaftAttributes(json)
    try updateAttributes(json)
  }

  /// Takes peer URLs and learner flag from `json`.
  mutating func updateRaftAttributes(_ json: JSON) throws(MemberRecordError) {
    if let urls = json["peerURLs"], urls != .null {
      guard let texts = urls.texts else { throw .malformed }
      peerURLs = texts
    }
    isLearner = json["isLearner"]?.isTrue ?? false
  }

  /// Takes name and client URLs from `json`; what it does not name becomes empty.
  mutating func updateAttributes(_ json: JSON) throws(MemberRecordError) {
    guard case .object = json else { throw .malformed }
    name = json["name"]?.text ?? ""
    clientURLs = json["clientURLs"]?.texts ?? []
  }
}

/// A change of the configuration as a log entry carries it.
/// etcd: `raftpb.ConfChange` with `membership.ConfigChangeContext`.
public enum MemberChange: Equatable, Sendable {
  case add(Member)
  case promote(NodeID)
  case remove(NodeID)
  case update(Member)

  /// raftpb's numbers.
  public enum Kind: Int32, Sendable {
    case addNode = 0, removeNode = 1, updateNode = 2, addLearnerNode = 3
  }

  public var kind: Kind {
    switch self {
    case .add(let member): member.isLearner ? .addLearnerNode : .addNode
    case .promote: .addNode
    case .remove: .removeNode
    case .update: .updateNode
    }
  }

  public var node: NodeID {
    switch self {
    case .add(let member), .update(let member): member.id
    case .promote(let id), .remove(let id): id
    }
  }

  /// The context that goes into the entry; empty for a removal.
  public var context: [UInt8] {
    switch self {
    case .add(let member), .update(let member): return member.json.encoded
    case .remove: return []
    case .promote(let id):
      let member = Member(id: id, name: "", peerURLs: [], clientURLs: [], isLearner: false)
      guard case .object(let fields) = member.json else { return [] }
      return JSON.object(fields + [JSON.Field("isPromote", .bool(true))]).encoded
    }
  }

  /// Reads an entry's change.
  public init(kind: Kind, node: NodeID, context: [UInt8]) throws(MemberRecordError) {
    guard kind != .removeNode else {
      self = .remove(node)
      return
    }
    let json: JSON
    do { json = try JSON.parse(context) } catch { throw .malformed }
    let member = try Member(json)
    guard member.id == node else { throw .malformed }
    if kind == .updateNode {
      self = .update(member)
    } else if json["isPromote"]?.isTrue ?? false {
      self = .promote(node)
    } else {
      self = .add(member)
    }
  }
}
