internal import Basics

/// A hash of all rows up to a revision, computed in steps: begun and stepped under the store's
/// lock, a bounded number of rows each. Two members with the same history get the same hash, be
/// they etcd's or ours, and however far each is with taking compacted rows out.
public struct HashTask: Sendable {
  /// The revision asked for; 0 for the newest.
  let asked: Int64
  public let revision: Int64
  public let compactRevision: Int64
  /// The store's revision when the task began.
  public let currentRevision: Int64
  public private(set) var hash: UInt32
  var next: Revision = .zero
  var buffered = EventlessRows()
  let keepsAny: Bool

  /// Rows of the write buffer as they were at the start, in order.
  struct EventlessRows: Sendable {
    var arena: [UInt8] = []
    var rows: [WriteBuffer.Row] = []
    mutating func add(_ buffer: WriteBuffer) {
      for row in buffer.rows {
        let start = arena.count
        arena.append(contentsOf: buffer.arena.rawSpan.extracting(row.value))
        var copy = row
        copy.value = Slice(start: start, count: Int(row.value.count))
        rows.append(copy)
      }
    }
  }

  init(
    asked: Int64, revision: Int64, compactRevision: Int64, currentRevision: Int64, keepsAny: Bool
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
  /// Begins the hash at `revision` (0: the newest). etcd: mvcc/kvstore.go hashByRev.
  public borrowing func beginHash(
    _ revision: Int64, reader: inout B.Reader
  ) throws(StoreError) -> HashTask {
    if revision > 0, revision <= compactRevision { throw .compacted }
    if revision > currentRevision { throw .future }
    let at = revision == 0 ? currentRevision : revision
    var task = HashTask(
      asked: revision, revision: at, compactRevision: compactRevision,
      currentRevision: currentRevision, keepsAny: index.keepsAny(at: at))
    if let frozen { task.buffered.add(frozen) }
    task.buffered.add(active)
    do {
      try reader.renew()
    } catch {
      throw .backend(error)
    }
    return task
  }

  /// Hashes on over at most `rowsMax` rows; true when done. `reader` is not renewed between
  /// steps, unless a compaction began meanwhile: then the task begins anew, as its rows go. Throws
  /// `compacted` when that compaction has passed the revision asked for.
  public borrowing func stepHash(
    _ task: inout HashTask, reader: inout B.Reader, rowsMax: Int
  ) throws(StoreError) -> Bool {
    guard task.compactRevision == compactRevision else {
      task = try beginHash(task.asked, reader: &reader)
      return false
    }
    let first = task.buffered.rows.first?.revision ?? Revision(main: .max, sub: .max)
    let from = RevisionKey.bytes(task.next)
    let to = RevisionKey.bytes(min(first, Revision(main: task.revision + 1, sub: 0)))
    var work = task
    var left = rowsMax
    var isDone = true
    do {
      try reader.scan(.key, from: from.rawSpan, to: to.rawSpan) { key, value in
        guard let row = RevisionKey.read(key) else { return true }
        guard left > 0 else {
          work.next = row.revision
          isDone = false
          return false
        }
        left -= 1
        if counts(row.revision, row.isTombstone, value, in: work) { work.add(key, value) }
        return true
      }
    } catch {
      throw .backend(error)
    }
    if isDone {
      let buffered = work.buffered
      for row in buffered.rows where row.revision.main <= work.revision {
        let value = buffered.arena.rawSpan.extracting(row.value)
        guard counts(row.revision, row.isTombstone, value, in: work) else { continue }
        let key = RevisionKey.bytes(row.revision, isTombstone: row.isTombstone)
        work.add(key.rawSpan, value)
      }
    }
    task = work
    return isDone
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
