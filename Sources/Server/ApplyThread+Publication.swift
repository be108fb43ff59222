internal import Basics
internal import Membership
internal import Platform
internal import Replica
internal import Services

/// What a member tells the cluster of itself, and its leader of the version that all run at.
extension ApplyThread {
  /// Tells the cluster this member's name and client URLs, and, from the leader, its version.
  /// etcd: `EtcdServer.publish`, `monitorVersions`.
  mutating func publish(_ now: UInt64) {
    guard shared.board.withLock({ $0.status.leader }) != .none else { return }
    let member = settings.publication
    if !isPublished, let known = shared.replica.cluster.member(member.id) {
      if let since = publishedSince, shared.replica.appliedIndex > since,
        known.name == member.name, known.clientURLs == member.clientURLs
      {
        isPublished = true
        ready()
      } else if now >= publishAgainAt {
        publishAgainAt = now + Limits.publishNanoseconds
        publishedSince = shared.replica.appliedIndex
        propose(V2Request.publish(member, id: ids.next()))
      }
    }
    if isLeader, isPublished, now >= versionProposedAt, let version = wantedVersion(),
      version != shared.replica.cluster.version
    {
      versionProposedAt = now + Limits.versionNanoseconds
      propose(V2Request.version(version, id: ids.next()))
    }
  }

  private mutating func propose(_ request: V2Request) {
    outcome.proposals.append(Proposal(id: request.id, data: V2Wire.encode(request)))
  }

  private func ready() {
    shared.board.withLock { $0.isReady = true }
    for loop in shared.loops { loop.box.post(.wake) }
    shared.log.info(
      "published local member to cluster through raft",
      ("local-member-id", Hex.text(settings.publication.id.rawValue)))
    shared.log.info("ready to serve client requests")
    do throws(Errno) {
      _ = try Supervisor.tell("READY=1")
    } catch {
      shared.log.error("failed to notify systemd for readiness", ("error", "\(error)"))
    }
  }

  /// The version that the cluster should run at: the lowest of its members'; nil while one is
  /// not known. etcd: `decideClusterVersion`, `monitorVersions`.
  private func wantedVersion() -> ClusterVersion? {
    let cluster = shared.replica.cluster
    let own = settings.serverVersion
    let others = shared.board.withLock { $0.peerVersions }
    var lowest = own
    for member in cluster.members where member.id != settings.publication.id {
      guard let text = others[member.id], let version = ClusterVersion(text) else {
        // Until all are known a new cluster is taken to be the oldest there is.
        return cluster.version == nil ? ClusterVersion(major: 3, minor: 0, patch: 0) : nil
      }
      lowest = min(lowest, version)
    }
    guard let version = cluster.version else { return lowest.cluster }
    return lowest.cluster > version ? lowest.cluster : nil
  }
}
