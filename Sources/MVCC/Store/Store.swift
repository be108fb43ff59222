public import Basics

/// Why the store does not answer a question about revisions.
public enum StoreError: Error, Equatable, Sendable {
  /// etcd: ErrCompacted.
  case compacted
  /// etcd: ErrFutureRev.
  case future
  case backend(BackendError)
}

/// The multi-version store: every change under its revision, the index in memory, rows in the
/// backend with a write buffer in front.
///
/// The owner sees to it that changes and `plan…` never run at the same time; plans may run beside
/// each other and are executed without any lock. etcd: server/mvcc/kvstore.go.
public struct Store<B: Backend>: ~Copyable {
  public enum Limits {
    /// Bytes in the write buffer above which the owner waits for a commit.
    public static var bufferBytes: Int { 128 << 20 }
    /// Values that one step of a hash reads, but for the last of them.
    public static var hashBytesPerStep: Int { 4 << 20 }
    /// Bytes in the write buffer above which a hash waits for the next commit to begin.
    public static var hashBufferBytes: Int { 8 << 20 }
  }

  public let backend: B
  /// The main revision of the newest transaction; 1 when there was none.
  public internal(set) var currentRevision: Int64 = 1
  /// -1 before the first compaction.
  public internal(set) var compactRevision: Int64 = -1
  /// The newest log entry whose effect is in the store.
  public internal(set) var consistentIndex = LogIndex.zero
  public internal(set) var consistentTerm = Term.zero

  /// Rows that compactions have dropped since the start.
  public internal(set) var compactedRows = 0

  var index = KeyIndex()
  var active = WriteBuffer()
  var frozen: WriteBuffer?
  var compaction: Compaction?
  private var subRevision: Int64 = 0
  private var firstRow = 0

  init(backend: B) { self.backend = backend }

  public var keyCount: Int { index.keyCount }

  // MARK: Transactions

  /// Starts a write transaction: its changes get sub-revisions from 0.
  public mutating func begin() {
    subRevision = 0
    firstRow = active.rows.count
  }

  /// Whether the transaction changed anything so far.
  public var hasChanges: Bool { subRevision > 0 }

  private mutating func nextRevision() -> Revision {
    defer { subRevision += 1 }
    return Revision(main: currentRevision + 1, sub: subRevision)
  }

  /// Sets `key`; returns its new state.
  @discardableResult
  public mutating func put(key: RawSpan, value: RawSpan, lease: LeaseID) -> KeyIndex.Hit {
    let revision = nextRevision()
    let hit = index.put(key, at: revision)
    active.add(revision, isTombstone: false) { bytes in
      KeyValueBytes.append(key: key, value: value, hit: hit, lease: lease, to: &bytes)
    }
    return hit
  }

  /// Deletes the keys of the range in key order and calls `deleted` with each; returns how many.
  /// `to` is as in a request: empty for one key, a zero byte for all from `from` on.
  public mutating func deleteRange(
    from: RawSpan, to: RawSpan, deleted: (RawSpan) -> Void
  ) -> Int64 {
    let revision = currentRevision + (hasChanges ? 1 : 0)
    if to.byteCount == 0 {
      guard index.find(from, at: revision) != nil else { return 0 }
      delete(from)
      deleted(from)
      return 1
    }
    var arena: [UInt8] = []
    var keys: [Slice] = []
    scan(from: from, to: to, at: revision) { key, _ in
      keys.append(Slice(start: arena.count, count: key.byteCount))
      arena.append(contentsOf: key)
      return true
    }
    for slice in keys {
      let key = arena.rawSpan.extracting(slice)
      delete(key)
      deleted(key)
    }
    return Int64(keys.count)
  }

  private mutating func delete(_ key: RawSpan) {
    let revision = nextRevision()
    let wasLive = index.tombstone(key, at: revision)
    precondition(wasLive, "a key that was found is live")
    active.add(revision, isTombstone: true) { KeyValueBytes.appendKey(key, to: &$0) }
  }

  /// Ends the transaction: the revision moves if anything changed, and the changes are added to
  /// `events`.
  public mutating func end(into events: inout EventBatch) {
    guard hasChanges else { return }
    currentRevision += 1
    for at in firstRow..<active.rows.count {
      let row = active.rows[at]
      let bytes = active.arena.rawSpan.extracting(row.value)
      let isWhole =
        row.isTombstone
        ? events.appendDelete(row: bytes, at: row.revision)
        : events.appendPut(bytes, at: row.revision)
      precondition(isWhole, "the store's own rows are readable")
    }
    subRevision = 0
  }

  /// The index scan of a range as requests write it.
  borrowing func scan(
    from: RawSpan, to: RawSpan, at revision: Int64, _ body: (RawSpan, KeyIndex.Hit) -> Bool
  ) {
    let isUnbounded = to.byteCount == 1 && to[0] == 0
    index.scan(from: from, to: isUnbounded ? RawSpan() : to, at: revision, body: body)
  }

  // MARK: Other buckets

  /// Sets a row of a bucket other than `key`.
  public mutating func putMeta(bucket: Bucket, key: [UInt8], value: [UInt8]) {
    precondition(bucket != .key)
    active.change(bucket, key, value)
  }

  /// Removes a row of another bucket than `key`, with the next commit.
  public mutating func removeMeta(bucket: Bucket, key: [UInt8]) {
    precondition(bucket != .key)
    active.change(bucket, key, nil)
  }

  /// Notes that the store holds the effect of the log up to `index`; goes to the backend in the
  /// same commit as that effect.
  public mutating func setConsistentIndex(_ index: LogIndex, term: Term) {
    precondition(index >= consistentIndex, "the consistent index never goes back")
    consistentIndex = index
    consistentTerm = term
  }

  // MARK: Write buffer

  public var bufferedOperations: Int { active.operations }
  public var bufferedBytes: Int { active.bytes + (frozen?.bytes ?? 0) }
  /// Whether a frozen buffer waits for its commit; another cannot be frozen meanwhile.
  public var isCommitting: Bool { frozen != nil }

  /// Sets the write buffer aside for a commit; readers still find its rows. Its batch goes to
  /// `Backend.commit`, after which `dropFrozen` is called.
  public mutating func freeze() -> FrozenBuffer {
    precondition(frozen == nil && !hasChanges)
    var number: [UInt8] = []
    number.append(bigEndian: consistentIndex.rawValue)
    active.change(.meta, MetaKey.consistentIndex, number)
    number.removeAll()
    number.append(bigEndian: consistentTerm.rawValue)
    active.change(.meta, MetaKey.term, number)
    let buffer = active
    frozen = buffer
    active = WriteBuffer()
    firstRow = 0
    return FrozenBuffer(buffer: buffer)
  }

  /// Lets the frozen buffer go, now that the backend has its rows.
  public mutating func dropFrozen() { frozen = nil }
}

/// A write buffer on its way to the backend.
public struct FrozenBuffer: Sendable {
  let buffer: WriteBuffer

  /// What the backend is to commit. Linear in the buffer; needs no lock.
  public func batch() -> WriteBatch { buffer.batch() }
}

/// Keys of bucket `meta` (etcd: mvcc/buckets).
enum MetaKey {
  static let consistentIndex = Array("consistent_index".utf8)
  static let term = Array("term".utf8)
  static let scheduledCompact = Array("scheduledCompactRev".utf8)
  static let finishedCompact = Array("finishedCompactRev".utf8)
}
