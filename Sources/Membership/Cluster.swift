public import Basics

/// A version of the cluster or of a server; only major and minor count for a cluster.
public struct ClusterVersion: Hashable, Comparable, Sendable {
  public var major: UInt32
  public var minor: UInt32
  public var patch: UInt32

  public init(major: UInt32, minor: UInt32, patch: UInt32) {
    self.major = major
    self.minor = minor
    self.patch = patch
  }

  /// Below every version.
  public static let zero = ClusterVersion(major: 0, minor: 0, patch: 0)

  /// Reads `3.5.0`; a pre-release or build suffix is ignored.
  public init?(_ text: String) {
    let core = text.prefix { $0 != "-" && $0 != "+" }
    let parts = core.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let major = ClusterVersion.number(parts[0]),
      let minor = ClusterVersion.number(parts[1]), let patch = ClusterVersion.number(parts[2])
    else { return nil }
    self.init(major: major, minor: minor, patch: patch)
  }

  private static func number(_ text: Substring) -> UInt32? {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
    return UInt32(text)
  }

  public var text: String { "\(major).\(minor).\(patch)" }

  /// Without the patch.
  public var cluster: ClusterVersion { ClusterVersion(major: major, minor: minor, patch: 0) }

  public static func < (a: ClusterVersion, b: ClusterVersion) -> Bool {
    (a.major, a.minor, a.patch) < (b.major, b.minor, b.patch)
  }
}

/// A downgrade that is allowed at present. etcd: `membership.DowngradeInfo`.
public struct Downgrade: Equatable, Sendable {
  public var isEnabled: Bool
  public var target: String
  public init(isEnabled: Bool, target: String) {
    self.isEnabled = isEnabled
    self.target = target
  }
}

/// A row for one of the buckets that mirror membership; no value removes it.
public struct MemberRow: Equatable, Sendable {
  public enum Bucket: Sendable { case members, membersRemoved, cluster }
  public var bucket: Bucket
  public var key: [UInt8]
  public var value: [UInt8]?
}

/// Who belongs to the cluster, as the log has decided it. etcd: `membership.RaftCluster`.
///
/// The v2 tree is the truth, since raft snapshots carry it; every change also yields the rows
/// that mirror it in the backend.
public struct Cluster: Sendable {
  public private(set) var tree: V2Tree
  /// In order of the IDs.
  public private(set) var members: [Member] = []
  /// IDs that may never come back, in order.
  public private(set) var removed: [NodeID] = []
  public private(set) var version: ClusterVersion?
  public private(set) var downgrade: Downgrade?

  static let membersPath = "/0/members"
  static let removedPath = "/0/removed_members"
  /// Where the tree keeps the cluster's version.
  public static let versionPath = "/0/version"
  static let versionKey = [UInt8]("clusterVersion")
  static let downgradeKey = [UInt8]("downgrade")

  /// A cluster of which the log has said nothing yet.
  public init() { tree = V2Tree() }

  /// What a snapshot's tree says. Throws when a member's record cannot be read.
  public init(tree: V2Tree) throws(MemberRecordError) {
    self.tree = tree
    for name in tree.names(at: Cluster.membersPath) {
      guard let id = Hex.value(name.utf8) else { throw .malformed }
      members.append(try Cluster.member(NodeID(id), in: tree))
    }
    for name in tree.names(at: Cluster.removedPath) {
      guard let id = Hex.value(name.utf8) else { throw .malformed }
      removed.append(NodeID(id))
    }
    members.sort { $0.id < $1.id }
    removed.sort()
    if let text = tree.value(at: Cluster.versionPath) { version = ClusterVersion(text) }
  }

  /// Takes the downgrade row of the backend's cluster bucket, which the tree does not hold.
  public mutating func restoreDowngrade(row value: [UInt8]) {
    guard let json = try? JSON.parse(value) else { return }
    downgrade = Downgrade(
      isEnabled: json["enabled"]?.isTrue ?? false, target: json["target-version"]?.text ?? "")
  }

  /// A member, by ID.
  public func member(_ id: NodeID) -> Member? { members.first { $0.id == id } }
  /// Whether a member of that ID was there and was removed: it never comes back.
  public func isRemoved(_ id: NodeID) -> Bool { removed.contains(id) }
  public var voters: [Member] { members.filter { !$0.isLearner } }

  /// The path of a member's record in the tree.
  public static func path(_ id: NodeID) -> String { membersPath + "/" + Hex.text(id.rawValue) }

  private static func member(_ id: NodeID, in tree: V2Tree) throws(MemberRecordError) -> Member {
    var member = Member(id: id, name: "", peerURLs: [], clientURLs: [], isLearner: false)
    guard let raft = tree.value(at: path(id) + "/raftAttributes") else { throw .malformed }
    try member.updateRaftAttributes(try parsed(raft))
    if let own = tree.value(at: path(id) + "/attributes") {
      try member.updateAttributes(try parsed(own))
    }
    return member
  }

  private static func parsed(_ text: String) throws(MemberRecordError) -> JSON {
    do { return try JSON.parse([UInt8](text.utf8)) } catch { throw .malformed }
  }

  private static func row(_ member: Member) -> MemberRow {
    MemberRow(
      bucket: .members, key: [UInt8](Hex.text(member.id.rawValue).utf8),
      value: member.json.encoded)
  }

  private static func text(_ fields: [JSON.Field]) -> String {
    String(decoding: JSON.object(fields).encoded, as: UTF8.self)
  }

  /// Carries out a change that `validate` has let pass. Returns the rows that mirror it.
  public mutating func apply(_ change: MemberChange) -> [MemberRow] {
    switch change {
    case .add(let member):
      // The tree may be ahead of the backend after a restart, never the other way round.
      _ = try? tree.create(
        Cluster.path(member.id) + "/raftAttributes", value: Cluster.text(member.raftAttributes))
      members.removeAll { $0.id == member.id }
      members.append(member)
      members.sort { $0.id < $1.id }
      return [Cluster.row(member)]
    case .promote(let id):
      return updateRaft(id) { $0.isLearner = false }
    case .update(let changed):
      return updateRaft(changed.id) {
        $0.peerURLs = changed.peerURLs
        $0.isLearner = changed.isLearner
      }
    case .remove(let id):
      _ = try? tree.remove(Cluster.path(id))
      _ = try? tree.create(Cluster.removedPath + "/" + Hex.text(id.rawValue), value: "")
      members.removeAll { $0.id == id }
      if !removed.contains(id) {
        removed.append(id)
        removed.sort()
      }
      let key = [UInt8](Hex.text(id.rawValue).utf8)
      return [
        MemberRow(bucket: .membersRemoved, key: key, value: [UInt8]("removed")),
        MemberRow(bucket: .members, key: key, value: nil),
      ]
    }
  }

  private mutating func updateRaft(
    _ id: NodeID, _ edit: (inout Member) -> Void
  ) -> [MemberRow] {
    guard let index = members.firstIndex(where: { $0.id == id }) else { return [] }
    edit(&members[index])
    _ = try? tree.update(
      Cluster.path(id) + "/raftAttributes", value: Cluster.text(members[index].raftAttributes))
    return [Cluster.row(members[index])]
  }

  /// Takes what a member has published of itself; a member that is gone is ignored.
  public mutating func setAttributes(
    _ id: NodeID, name: String, clientURLs: [String]
  ) -> [MemberRow] {
    guard let index = members.firstIndex(where: { $0.id == id }) else { return [] }
    members[index].name = name
    members[index].clientURLs = clientURLs
    _ = try? tree.set(
      Cluster.path(id) + "/attributes", value: Cluster.text(members[index].attributes))
    return [Cluster.row(members[index])]
  }

  /// Takes the version that all run at; the rows to be stored for it.
  public mutating func setVersion(_ version: ClusterVersion) -> [MemberRow] {
    self.version = version
    _ = try? tree.set(Cluster.versionPath, value: version.text)
    return [
      MemberRow(bucket: .cluster, key: Cluster.versionKey, value: [UInt8](version.text.utf8))
    ]
  }

  /// Takes a downgrade that begins or is over; the rows to be stored for it.
  public mutating func setDowngrade(_ downgrade: Downgrade) -> [MemberRow] {
    self.downgrade = downgrade
    let json = JSON.object([
      .init("target-version", .string(downgrade.target)),
      .init("enabled", .bool(downgrade.isEnabled)),
    ])
    return [MemberRow(bucket: .cluster, key: Cluster.downgradeKey, value: json.encoded)]
  }

  /// Every row that the buckets should hold; what a new backend is filled with.
  public var rows: [MemberRow] {
    var rows = members.map(Cluster.row)
    for id in removed {
      rows.append(
        MemberRow(
          bucket: .membersRemoved, key: [UInt8](Hex.text(id.rawValue).utf8),
          value: [UInt8]("removed")))
    }
    if let version {
      rows.append(
        MemberRow(bucket: .cluster, key: Cluster.versionKey, value: [UInt8](version.text.utf8)))
    }
    return rows
  }
}
