internal import Basics

/// A request of the v2 API as the log carries it, as far as membership needs it.
/// etcd: `etcdserverpb.Request`.
public struct V2Request: Equatable, Sendable {
  public var id: UInt64
  public var method: String
  public var path: String
  public var value: String

  public init(id: UInt64, method: String, path: String, value: String) {
    self.id = id
    self.method = method
    self.path = path
    self.value = value
  }

  /// The request by which a member publishes its name and client URLs.
  public static func publish(_ member: Member, id: UInt64) -> V2Request {
    V2Request(
      id: id, method: "PUT", path: Cluster.path(member.id) + "/attributes",
      value: String(decoding: JSON.object(member.attributes).encoded, as: UTF8.self))
  }

  /// The request that sets the cluster's version.
  public static func version(_ version: ClusterVersion, id: UInt64) -> V2Request {
    V2Request(id: id, method: "PUT", path: Cluster.versionPath, value: version.text)
  }
}

extension Cluster {
  /// Carries out a v2 request as far as it concerns membership; others change nothing.
  /// etcd: `applierV2store`.
  public mutating func apply(_ request: V2Request) -> [MemberRow] {
    guard request.method == "PUT" else { return [] }
    if request.path == Cluster.versionPath {
      guard let version = ClusterVersion(request.value) else { return [] }
      return setVersion(version)
    }
    let parts = request.path.split(separator: "/", omittingEmptySubsequences: true)
    guard parts.count == 4, parts[0] == "0", parts[1] == "members", parts[3] == "attributes",
      let id = Hex.value(parts[2].utf8), let json = try? JSON.parse([UInt8](request.value.utf8))
    else { return [] }
    return setAttributes(
      NodeID(id), name: json["name"]?.text ?? "", clientURLs: json["clientURLs"]?.texts ?? [])
  }
}
