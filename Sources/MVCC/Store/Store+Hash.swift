internal import Basics

/// A hash of all rows up to a revision, computed in steps: begun and stepped under the store's
/// lock, a bounded number of rows and bytes each. Two members with the same history get the same
/// hash, be they etcd's or ours, and however far each is with taking compacted rows out.
public struct HashTask: Sendable {
  /// The revision asked for, 0 for the newest; nil for the hash that goes with a compaction.
  let asked: Int64?
  public let revision: Int64
  public let compactRevision: Int64
  /// The store's revision when the task began.
  public let currentRevision: Int64
  public private(set) var hash: UInt32
  /// The row of the backend to go on with; nil when these are done.
  var next: Revision? = .zero
  /// Write buffers as they were at the start, older first, and the row of the first to go on with.
  var buffers: [WriteBuffer] = []
  var nextBuffered = 0
  let keepsAny: Bool

  init(
    asked: Int64?, revision: Int64, compactRevision: Int64, currentRevision: Int64,
    keepsAny: Bool
  ) {
    self.asked = asked
    self.revision = revision
    self.compactRevision = compactRevision
    self.currentRevision = currentRevision
    self.keepsAny = keepsAny
    hash = crc32c(Array("key".utf8))
  }

  mutating func add(_ key: RawSpan, _ value: RawSpan) {
    hash = crc32c(value, seed: crc32c(key, seed: hash))
  }
}

extension Store {
  /// Whether a hash may begin: what is in the write buffer is copied for it, under the lock.
  public var isReadyToHash: Bool { active.bytes <= Limits.hashBufferBytes }

  /// Begins the hash at `revision` (0: the newest). etcd: mvcc/kvstore.go hashByRev.
  public borrowing func beginHash(
    _ revision: Int64, reader: inout B.Reader
  ) throws(StoreError) -> HashTask {
    if revision > 0, revision < compactRevision { throw .compacted }
    if revision > currentRevision { throw .future }
    let at = revision == 0 ? currentRevision : revision
    return try begin(
      HashTask(
        asked: revision, revision: at, compactRevision: compactRevision,
        currentRevision: currentRevision, keepsAny: index.keepsAny(at: at, with: .liveRows)),
      &reader)
  }

  /// Begins the hash of what a compaction to `revision` finds, the one before having gone to
  /// `previous`: before its first step. The same on every member that carries both out.
  /// etcd: mvcc/kvstore_compaction.go.
  public borrowing func beginHash(
    ofCompaction revision: Int64, after previous: Int64, reader: inout B.Reader
  ) throws(StoreError) -> HashTask {
    try begin(
      HashTask(
        asked: nil, revision: revision, compactRevision: previous,
        currentRevision: currentRevision,
        keepsAny: index.keepsAny(at: revision, with: .liveRowsAndTombstones)),
      &reader)
  }

  private borrowing func begin(
    _ task: HashTask, _ reader: inout B.Reader
  ) throws(StoreError) -> HashTask {
    var task = task
    if let frozen { task.buffers.append(frozen) }
    task.buffers.append(active)
    do { try reader.renew() } catch { throw .backend(error) }
    return task
  }

  /// Hashes on over at most `rowsMax` rows, and little more than `Limits.hashBytesPerStep`; true
  /// when done. `reader` is not renewed between steps, unless a compaction began meanwhile: then
  /// the task begins anew, as its rows go. Throws `compacted` when that compaction has passed the
  /// revision asked for.
  public borrowing func stepHash(
    _ task: inout HashTask, reader: inout B.Reader, rowsMax: Int
  ) throws(StoreError) -> Bool {
    if let asked = task.asked, task.compactRevision != compactRevision {
      task = try beginHash(asked, reader: &reader)
      return false
    }
    var work = task
    var budget = HashBudget(rows: rowsMax, bytes: Limits.hashBytesPerStep)
    if let next = work.next {
      let first = work.buffers.lazy.compactMap { $0.rows.first?.revision }.first
      let end = Revision(main: work.revision + 1, sub: 0)
      let (from, to) = (RevisionKey.bytes(next), RevisionKey.bytes(min(first ?? end, end)))
      work.next = nil
      do {
        try reader.scan(.key, from: from.rawSpan, to: to.rawSpan) { key, value in
          guard let row = RevisionKey.read(key) else { return true }
          guard budget.take(value.byteCount) else {
            work.next = row.revision
            return false
          }
          if counts(row.revision, row.isTombstone, value, in: work) { work.add(key, value) }
          return true
        }
      } catch {
        throw .backend(error)
      }
    }
    if work.next == nil { hashBuffers(&work, &budget) }
    task = work
    return work.next == nil && work.buffers.isEmpty
  }

  private borrowing func hashBuffers(_ task: inout HashTask, _ budget: inout HashBudget) {
    while let buffer = task.buffers.first {
      while task.nextBuffered < buffer.rows.count {
        let row = buffer.rows[task.nextBuffered]
        guard row.revision.main <= task.revision else { break }
        guard budget.take(Int(row.value.count)) else { return }
        task.nextBuffered += 1
        let value = buffer.arena.rawSpan.extracting(row.value)
        guard counts(row.revision, row.isTombstone, value, in: task) else { continue }
        let key = RevisionKey.bytes(row.revision, isTombstone: row.isTombstone)
        task.add(key.rawSpan, value)
      }
      task.buffers.removeFirst()
      task.nextBuffered = 0
    }
  }

  /// Behind the compacted revision only what outlives the compaction counts, and no tombstone:
  /// etcd before 3.5.16 took those at the compacted revision away. Of these etcd leaves out what
  /// is replaced at the hashed revision, unless nothing at all is live there.
  /// etcd: mvcc/hash.go WriteKeyValue.
  private borrowing func counts(
    _ revision: Revision, _ isTombstone: Bool, _ value: RawSpan, in task: HashTask
  ) -> Bool {
    guard revision.main <= task.compactRevision else { return true }
    guard !isTombstone, let fields = KeyValueBytes(value) else { return false }
    let at = task.keepsAny ? task.revision : task.compactRevision
    return index.isKept(revision, of: value.extracting(fields.key), at: at)
  }
}

/// What is left of one step.
private struct HashBudget {
  var rows: Int
  var bytes: Int

  /// False when the step is at its end.
  mutating func take(_ count: Int) -> Bool {
    guard rows > 0, bytes > 0 else { return false }
    rows -= 1
    bytes -= count
    return true
  }
}
