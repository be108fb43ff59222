internal import Basics
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// The store's commits, and the snapshots that wait for them.
extension ApplyThread {
  /// How long after the first change that is not committed the thread looks at the store again.
  var commitDelay: UInt64 {
    restoring == nil && shared.replica.store.isCommitting
      ? Limits.commitWaitNanoseconds : settings.batchNanoseconds
  }

  /// Whether applying has to wait for the commit under way.
  var isFull: Bool {
    shared.replica.store.isCommitting
      && shared.replica.store.bufferedBytes >= Store<LMDBBackend>.Limits.bufferBytes
  }

  /// The state of now as the log's snapshot has it: members, configuration, index and term.
  var snapshot: Snapshot {
    Snapshot(
      metadata: SnapshotMetadata(
        confState: shared.replica.configuration, index: shared.replica.appliedIndex,
        term: shared.replica.appliedTerm),
      data: shared.replica.cluster.tree.snapshot)
  }

  /// Begins what is due: snapshots of each kind, and the next commit.
  mutating func store(_ now: UInt64) {
    snapshotIfDue()
    startSnapshots()
    exportIfWanted(now)
    stopIfRemoved(now)
    guard !shared.replica.store.isCommitting, let since = dirtySince,
      now >= since + settings.batchNanoseconds || pendingSnapshot != nil || isEnding
        || !snapshots.isEmpty
        || shared.replica.store.bufferedOperations >= settings.batchOperationsMax
    else { return }
    freeze()
  }

  /// Has what is in the write buffer committed.
  mutating func freeze() {
    shared.storeLock.lockForWriting()
    let buffer = shared.replica.store.freeze()
    shared.storeLock.unlock()
    dirtySince = nil
    frozenIndex = shared.replica.appliedIndex
    shared.background.post(.commit(buffer))
  }

  /// Lets those snapshots begin for which the store holds enough.
  private mutating func startSnapshots() {
    guard !snapshots.isEmpty else { return }
    let isClean = dirtySince == nil && !shared.replica.store.isCommitting
    for (index, stream) in snapshots where isClean || storedIndex >= index {
      stream.start(shared)
    }
    snapshots.removeAll { isClean || storedIndex >= $0.index }
  }

  /// A commit has come to its end; `failure`: why it did not succeed.
  mutating func stored(_ failure: String?) {
    if let failure {
      shared.log.fatal(
        "the store could not be committed; the process ends and the log is applied again at the "
          + "next start", ("error", failure))
    }
    shared.storeLock.lockForWriting()
    shared.replica.store.dropFrozen()
    shared.storeLock.unlock()
    storedIndex = frozenIndex
    guard let snapshot = pendingSnapshot, storedIndex >= snapshot.metadata.index
    else { return }
    pendingSnapshot = nil
    shared.wal.post(.snapshot(snapshot))
  }

  /// Every `--snapshot-count` entries; written once the store holds as much.
  private mutating func snapshotIfDue() {
    let applied = shared.replica.appliedIndex
    guard pendingSnapshot == nil, !shared.replica.store.isCommitting,
      applied.rawValue > snapshotIndex.rawValue + settings.snapshotCount
    else { return }
    snapshotIndex = applied
    pendingSnapshot = snapshot
    if dirtySince == nil { dirtySince = Clock.monotonic() }
  }
}
