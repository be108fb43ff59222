public import Basics

extension KeyIndex {
  /// Where a compaction goes on: behind the last key it has seen. Keys may come and go meanwhile.
  public struct CompactionCursor: Sendable {
    var key: [UInt8]?
    public init() {}
  }

  /// One step of a compaction, over at most `keysMax` keys. True when all keys are done.
  ///
  /// Of each key stays the newest revision up to `revision` and all after it. A tombstone below
  /// `revision` goes, and the key with it when nothing follows; one at `revision` stays (etcd from
  /// 3.5.16 on). `dropped` gets each revision that went and whether it was a tombstone.
  /// etcd: `keyIndex.compact`.
  public mutating func compact(
    to revision: Int64, resuming cursor: inout CompactionCursor, keysMax: Int,
    dropped: (Revision, Bool) -> Void
  ) -> Bool {
    precondition(keysMax > 0)
    var emptied: [Entry] = []
    var left = keysMax
    var last: Entry?
    var isDone = true
    var freed = 0
    let start = cursor.key ?? []
    let isResumed = cursor.key != nil
    visit(from: start.rawSpan) { entry in
      if isResumed && last == nil && entry.key.equals(start.rawSpan) { return true }
      guard left > 0 else {
        isDone = false
        return false
      }
      left -= 1
      last = entry
      let bytes = entry.bytes
      if Self.compact(entry, to: revision, dropped: dropped) { emptied.append(entry) }
      freed += bytes - entry.bytes
      return true
    }
    memoryBytes -= freed
    cursor.key = isDone ? nil : last?.key.copied()
    for entry in emptied { remove(entry) }
    return isDone
  }

  /// Whether `revision` of `key` would outlive a compaction at main revision `at`, by the rule that
  /// hashes go by: a tombstone at `at` does not. etcd: `keyIndex.keep`.
  public borrowing func isKept(_ revision: Revision, of key: RawSpan, at: Int64) -> Bool {
    guard let change = lookUp(key)?.change(at: at) else { return false }
    return !change.isTombstone && change.revision == revision
  }

  /// What etcd counts among the rows that a compaction keeps.
  public enum Kept: Sendable {
    case liveRows
    /// Those with tombstones at the compacted revision itself.
    case liveRowsAndTombstones
  }

  /// Whether any revision would be kept at main revision `at`: where none is, etcd's hash skips
  /// none. Usually answered by the first key; linear where all keys are gone.
  public borrowing func keepsAny(at: Int64, with kept: Kept) -> Bool {
    var found = false
    visit(from: RawSpan()) { entry in
      guard let change = entry.change(at: at) else { return true }
      found =
        !change.isTombstone
        || (kept == .liveRowsAndTombstones && change.revision.main == at)
      return !found
    }
    return found
  }

  /// True when nothing is left of the key.
  private static func compact(
    _ entry: Entry, to revision: Int64, dropped: (Revision, Bool) -> Void
  ) -> Bool {
    let newest = entry.newest
    let olderCount = entry.olderCount
    var gone = 0
    var isEmptied = false
    if newest.main <= revision {
      gone = olderCount
      isEmptied = newest.isTombstone && newest.main < revision
    } else {
      let count = entry.olderIndex(after: revision)
      guard count > 0 else { return false }
      let kept = entry.older(count - 1)
      gone = kept.isTombstone && kept.main < revision ? count : count - 1
    }
    for index in 0..<gone {
      let change = entry.older(index)
      dropped(change.revision, change.isTombstone)
    }
    entry.dropOlder(gone)
    if isEmptied { dropped(newest.revision, true) }
    return isEmptied
  }
}
