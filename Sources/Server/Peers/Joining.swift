internal import Basics
internal import Config
internal import Membership
internal import Peers
internal import TLS

/// What a member that starts without data learns from the others. etcd: cluster_util.go.
enum Joining {
  enum Limits {
    /// For one answer, when the answer decides the start.
    static let patience: UInt64 = 10_000_000_000
    /// When it only may forbid it.
    static let glance: UInt64 = 1_000_000_000
  }

  struct Found {
    var cluster: ClusterID
    var members: [Member]
  }

  /// The members as the first of `urls` that answers knows them; nil when none does.
  static func members(
    _ urls: [String], patience: UInt64, _ tls: TLSFiles?, _ log: Logger?
  ) -> Found? {
    for url in urls {
      do throws(Exchange.Failure) {
        let (head, body) = try Exchange.get("/members", of: url, patience: patience, tls)
        if let found = read(head.header("x-etcd-cluster-id"), body) { return found }
        log?.warn("the answer of a peer is no list of members", ("address", url))
      } catch {
        log?.warn("failed to get cluster response", ("address", url), ("error", error.text))
      }
    }
    return nil
  }

  private static func read(_ header: String?, _ body: [UInt8]) -> Found? {
    guard let id = header.flatMap({ Handshake.id($0) }), let json = try? JSON.parse(body),
      case .array(let items) = json, !items.isEmpty
    else { return nil }
    var members: [Member] = []
    for item in items {
      guard let member = try? Member(item) else { return nil }
      members.append(member)
    }
    return Found(cluster: ClusterID(id), members: members.sorted { $0.id < $1.id })
  }

  /// The peer URLs of all of `--initial-cluster` but this member's, in bytewise order.
  private static func others(_ options: Options) -> [String] {
    options.initialCluster.filter { $0.name != options.name }.flatMap(\.peerURLs).sorted()
  }

  /// A new cluster may begin with this member only if the others do not know it as one that has
  /// run already: what it had acknowledged would be lost.
  static func checkIsNew(
    _ identity: Identity, _ options: Options, _ tls: TLSFiles?
  ) throws(StartError) {
    guard let found = members(others(options), patience: Limits.glance, tls, nil),
      let known = found.members.first(where: { $0.id == identity.member }),
      !known.clientURLs.isEmpty
    else { return }
    throw bootstrapped(identity.member)
  }

  private static func bootstrapped(_ member: NodeID) -> StartError {
    let id = Handshake.text(member.rawValue)
    return StartError(
      "member \(id) has already been bootstrapped: its data is gone, so that it may have "
        + "forgotten what it acknowledged. Remove it from the cluster (member remove \(id)), add "
        + "it again and start it with --initial-cluster-state existing [--data-dir]")
  }

  /// Who this member is in the running cluster that `--initial-cluster` names.
  /// etcd: `ValidateClusterAndAssignIDs`.
  static func join(
    _ options: Options, _ tls: TLSFiles?, _ log: Logger
  ) throws(StartError) -> Identity {
    let urls = others(options)
    guard let found = members(urls, patience: Limits.patience, tls, log) else {
      throw StartError(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from "
          + "the given URLs [--initial-cluster]")
    }
    func refuse(_ why: String) -> StartError {
      StartError("error validating peerURLs: \(why) [--initial-cluster]")
    }
    guard found.members.count == options.initialCluster.count else {
      throw refuse("member count is unequal")
    }
    var own: Member?
    for member in found.members {
      guard
        let match = options.initialCluster.first(where: {
          $0.peerURLs.sorted() == member.peerURLs.sorted()
        })
      else {
        throw refuse(
          "PeerURLs: no match found for existing member "
            + "(\(Handshake.text(member.id.rawValue)), \(member.peerURLs))")
      }
      if match.name == options.name { own = member }
    }
    guard let own else { throw refuse("\(options.name) is not among the cluster's members") }
    guard own.clientURLs.isEmpty else { throw bootstrapped(own.id) }
    try checkVersions(found, own.id, tls)
    return Identity(
      member: own.id, cluster: found.cluster, members: [],
      acquaintances: found.members.filter { $0.id != own.id })
  }

  /// The cluster must run at a version that is spoken here. etcd: `isCompatibleWithCluster`.
  private static func checkVersions(
    _ found: Found, _ own: NodeID, _ tls: TLSFiles?
  ) throws(StartError) {
    guard let newest = ClusterVersion(Server.etcdVersion)?.cluster else { return }
    var isKnown = false
    for member in found.members where member.id != own {
      guard let url = member.peerURLs.first,
        let answer = try? Exchange.get("/version", of: url, patience: Limits.patience, tls),
        let json = try? JSON.parse(answer.body),
        let version = json["etcdcluster"]?.text.flatMap({ ClusterVersion($0) })
      else { continue }
      guard version >= ClusterVersion(major: 3, minor: 0, patch: 0), version.cluster <= newest
      else {
        throw StartError(
          "incompatible with current running cluster: it runs at version \(version.text), this "
            + "server at \(Server.etcdVersion)")
      }
      isKnown = true
    }
    guard isKnown else { throw StartError("incompatible with current running cluster") }
  }
}
