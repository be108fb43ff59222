internal import Basics

/// A compaction under way.
struct Compaction: Sendable {
  var revision: Int64
  var cursor = KeyIndex.CompactionCursor()
}

extension Store {
  /// Forgets what only revisions before `revision` need. Reads below it are refused from now on;
  /// the rows go in `compactStep`. etcd: mvcc/kvstore.go Compact.
  public mutating func scheduleCompaction(_ revision: Int64) throws(StoreError) {
    if revision <= compactRevision { throw .compacted }
    if revision > currentRevision { throw .future }
    compactRevision = revision
    compaction = Compaction(revision: revision)
    active.change(
      .meta, MetaKey.scheduledCompact, RevisionKey.bytes(Revision(main: revision, sub: 0)))
  }

  public var isCompacting: Bool { compaction != nil }

  /// Goes on with the compaction over at most `keysMax` keys; true when none is under way any
  /// more. A step of 1,000 keys holds writers up for well under a millisecond.
  public mutating func compactStep(keysMax: Int) -> Bool {
    guard var running = compaction else { return true }
    var dropped: [(Revision, Bool)] = []
    let isDone = index.compact(
      to: running.revision, resuming: &running.cursor, keysMax: keysMax
    ) { revision, isTombstone in
      dropped.append((revision, isTombstone))
    }
    compactedRows += dropped.count
    for (revision, isTombstone) in dropped { active.drop(revision, isTombstone: isTombstone) }
    if isDone {
      active.change(
        .meta, MetaKey.finishedCompact,
        RevisionKey.bytes(Revision(main: running.revision, sub: 0)))
      compaction = nil
    } else {
      compaction = running
    }
    return isDone
  }
}
