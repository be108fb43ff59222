internal import Basics

/// What the backend does not have yet: rows in revision order, and changes of other buckets.
/// Readers look here first.
struct WriteBuffer: Sendable {
  struct Row: Sendable {
    var revision: Revision
    var isTombstone: Bool
    /// The encoded KeyValue, in the arena.
    var value: Slice
  }

  private(set) var arena: [UInt8] = []
  private(set) var rows: [Row] = []
  /// Rows that a compaction took.
  private(set) var drops: [(revision: Revision, isTombstone: Bool)] = []
  private(set) var meta: [(bucket: Bucket, key: [UInt8], value: [UInt8]?)] = []

  var operations: Int { rows.count + drops.count + meta.count }
  var isEmpty: Bool { operations == 0 }
  var bytes: Int { arena.count + rows.count * 40 + drops.count * 24 + meta.count * 64 }

  /// Adds a row whose KeyValue `encode` appends.
  mutating func add(
    _ revision: Revision, isTombstone: Bool, _ encode: (inout [UInt8]) -> Void
  ) {
    precondition(rows.isEmpty || rows[rows.count - 1].revision < revision)
    let start = arena.count
    encode(&arena)
    rows.append(
      Row(
        revision: revision, isTombstone: isTombstone,
        value: Slice(start: start, count: arena.count - start)))
  }

  mutating func drop(_ revision: Revision, isTombstone: Bool) {
    drops.append((revision, isTombstone))
  }

  mutating func change(_ bucket: Bucket, _ key: [UInt8], _ value: [UInt8]?) {
    meta.append((bucket, key, value))
  }

  /// The first row at or after `revision`.
  func position(_ revision: Revision) -> Int {
    var low = 0
    var high = rows.count
    while low < high {
      let middle = (low + high) / 2
      if rows[middle].revision < revision { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// The row of `revision`; nil when it is not here.
  func row(_ revision: Revision) -> Row? {
    guard let first = rows.first, first.revision <= revision else { return nil }
    let at = position(revision)
    return at < rows.count && rows[at].revision == revision ? rows[at] : nil
  }

  /// Everything as one batch: rows, what compaction took, then the other buckets.
  func batch() -> WriteBatch {
    var batch = WriteBatch()
    var key: [UInt8] = []
    for row in rows {
      key.removeAll(keepingCapacity: true)
      RevisionKey.append(row.revision, isTombstone: row.isTombstone, to: &key)
      batch.put(.key, key.rawSpan, arena.rawSpan.extracting(row.value))
    }
    for (revision, isTombstone) in drops {
      key.removeAll(keepingCapacity: true)
      RevisionKey.append(revision, isTombstone: isTombstone, to: &key)
      batch.remove(.key, key.rawSpan)
    }
    for (bucket, key, value) in meta {
      if let value {
        batch.put(bucket, key.rawSpan, value.rawSpan)
      } else {
        batch.remove(bucket, key.rawSpan)
      }
    }
    return batch
  }
}
