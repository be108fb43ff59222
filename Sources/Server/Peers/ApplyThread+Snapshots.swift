internal import Services
internal import MVCC
internal import Basics
internal import Membership
internal import Platform
internal import Raft
internal import Replica

/// Snapshots between members: of the state for one that has fallen behind the log, and one from
/// the leader in place of the state.
extension ApplyThread {
  /// Has the state of now made ready for the members that want it: all of it is committed to the
  /// store, and pinned there before anything else is. After a start the store may be ahead of what
  /// is applied: then there is no state of now yet.
  mutating func exportIfWanted(_ now: UInt64) {
    guard !exports.isEmpty, !shared.replica.store.isCommitting,
      shared.replica.appliedIndex >= shared.replica.store.consistentIndex
    else { return }
    let members = exports
    exports = []
    let snapshot = Snapshot(
      metadata: SnapshotMetadata(
        confState: shared.replica.configuration, index: shared.replica.appliedIndex,
        term: shared.replica.appliedTerm),
      data: shared.replica.cluster.tree.snapshot)
    if dirtySince != nil { freeze() }
    shared.background.post(.export(snapshot, members))
  }

  /// Stops applying until the store of the snapshot is in place.
  mutating func begin(_ snapshot: Snapshot) {
    let index = String(snapshot.metadata.index.rawValue)
    shared.log.info("applying snapshot", ("incoming-leader-snapshot-index", index))
    shared.metrics.snapshotsInProgress.set(1)
    restoring = snapshot
    isRestoreOrdered = false
  }

  /// Orders the change of stores once no commit is under way.
  mutating func restoreIfDue() {
    guard let snapshot = restoring, !isRestoreOrdered, !shared.replica.store.isCommitting
    else { return }
    isRestoreOrdered = true
    pendingSnapshot = nil
    shared.background.post(.restore(snapshot))
  }

  /// The store and the replica are those of the snapshot.
  mutating func restored() {
    guard let snapshot = restoring else { return }
    let index = snapshot.metadata.index
    restoring = nil
    dirtySince = nil
    snapshotIndex = index
    frozenIndex = index
    storedIndex = index
    updateBoard()
    let store = (
      revision: shared.replica.store.currentRevision,
      compactRevision: shared.replica.store.compactRevision
    )
    for loop in shared.loops {
      loop.box.post(
        .restored(revision: store.revision, compactRevision: store.compactRevision))
    }
    announceMembers()
    shared.metrics.snapshotsInProgress.set(0)
    shared.log.info("applied snapshot", ("snapshot-index", String(index.rawValue)))
  }

  // MARK: Members

  /// Tells the other threads who belongs to the cluster.
  func announceMembers() {
    let cluster = shared.replica.cluster
    shared.peers.box.post(.members(PeerMembers(cluster)))
    let voters = cluster.voters.map(\.id)
    let isLearner = cluster.member(settings.publication.id)?.isLearner ?? false
    shared.board.withLock { board in
      board.status.voters = voters
      board.status.isLearner = isLearner
    }
  }

  /// The version that the cluster should run at: the lowest of its members'; nil while one is
  /// not known. etcd: `decideClusterVersion`, `monitorVersions`.
  func wantedVersion() -> ClusterVersion? {
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
