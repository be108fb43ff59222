internal import Basics

extension Store {
  /// Finds the rows that answer `query`, copies those in the write buffer and moves `reader` to
  /// where it sees the others. Inside a transaction its own changes are seen.
  /// etcd: mvcc/kvstore_txn.go rangeKeys, etcdserver/apply.go Range.
  public borrowing func plan(
    _ query: RangeQuery, reader: inout B.Reader, into plan: inout RangePlan
  ) throws(StoreError) {
    let current = currentRevision + (hasChanges ? 1 : 0)
    if query.revision > current { throw .future }
    let revision = query.revision > 0 ? query.revision : current
    if revision < compactRevision { throw .compacted }
    plan = RangePlan()
    plan.revision = current
    plan.keysOnly = query.keysOnly
    if query.countOnly {
      plan.count = count(query, at: revision)
      return
    }
    find(query, at: revision, into: &plan)
    sort(query, &plan)
    var isInBackend = false
    for at in plan.items.indices {
      plan.items[at].value = copyBuffered(plan.items[at].hit.modified, into: &plan.arena)
      if plan.items[at].value == nil { isInBackend = true }
    }
    guard isInBackend else { return }
    do {
      try reader.renew()
    } catch {
      throw .backend(error)
    }
  }

  private borrowing func count(_ query: RangeQuery, at revision: Int64) -> Int {
    let key = query.key.rawSpan
    if query.end.isEmpty { return index.find(key, at: revision) == nil ? 0 : 1 }
    let isUnbounded = query.end == [0]
    return index.count(
      from: key, to: isUnbounded ? RawSpan() : query.end.rawSpan, at: revision)
  }

  private borrowing func find(
    _ query: RangeQuery, at revision: Int64, into plan: inout RangePlan
  ) {
    if query.end.isEmpty {
      guard let hit = index.find(query.key.rawSpan, at: revision) else { return }
      plan.count = 1
      if query.admits(hit) { plan.items.append(RangePlan.Item(hit: hit)) }
      return
    }
    // etcd fetches one row over the limit to know whether there is more, and everything where
    // an order or a filter is asked for.
    let isWhole = query.limit <= 0 || query.order != .none || query.isFiltered
    let itemsMax = isWhole || query.limit == .max ? Int.max : query.limit + 1
    var items: [RangePlan.Item] = []
    var count = 0
    scan(from: query.key.rawSpan, to: query.end.rawSpan, at: revision) { _, hit in
      count += 1
      if items.count < itemsMax, query.admits(hit) { items.append(RangePlan.Item(hit: hit)) }
      return true
    }
    plan.items = items
    plan.count = count
  }

  private borrowing func sort(_ query: RangeQuery, _ plan: inout RangePlan) {
    let order = query.target != .key && query.order == .none ? .ascend : query.order
    func number(_ hit: KeyIndex.Hit) -> Int64 {
      switch query.target {
      case .version: hit.version
      case .create: hit.created.main
      default: hit.modified.main
      }
    }
    switch query.target {
    case .value:
      plan.valueOrder = order
      plan.cutAfterSort = query.limit
      return
    case .key:
      if order == .descend { plan.items.reverse() }
    case .version, .create, .mod:
      let descends = order == .descend
      plan.items = plan.items.enumerated().sorted { a, b in
        let (x, y) = (number(a.element.hit), number(b.element.hit))
        return x == y ? a.offset < b.offset : (x < y) != descends
      }.map(\.element)
    }
    plan.cut(to: query.limit)
  }

  private borrowing func copyBuffered(_ revision: Revision, into arena: inout [UInt8]) -> Slice? {
    func copy(_ buffer: WriteBuffer, _ row: WriteBuffer.Row, _ arena: inout [UInt8]) -> Slice {
      let slice = Slice(start: arena.count, count: Int(row.value.count))
      arena.append(contentsOf: buffer.arena.rawSpan.extracting(row.value))
      return slice
    }
    if let row = active.row(revision) { return copy(active, row, &arena) }
    if let frozen, let row = frozen.row(revision) { return copy(frozen, row, &arena) }
    return nil
  }
}

/// The changes of a stretch of revisions, for watchers that catch up: begun under the store's
/// lock, read without it.
public struct ChangesPlan: Sendable {
  /// Main revisions, both inclusive.
  public internal(set) var from: Int64 = 0
  public internal(set) var to: Int64 = 0
  var buffered = EventBatch()
  /// Where the write buffer takes over from the backend.
  var bufferStart = Revision.zero

  public init() {}

  /// Reads the changes in order, whole revisions only, until about `bytesMax` bytes are there.
  /// Returns the last main revision that is wholly in `events`.
  public func execute<R: BackendReader>(
    reader: inout R, bytesMax: Int, into events: inout EventBatch
  ) throws(BackendError) -> Int64 {
    let start = RevisionKey.bytes(Revision(main: from, sub: 0))
    let end = RevisionKey.bytes(
      min(bufferStart, Revision(main: to == .max ? to : to + 1, sub: 0)))
    var last: Int64 = from - 1
    var stopped: Int64?
    var broken: String?
    try reader.scan(.key, from: start.rawSpan, to: end.rawSpan) { key, value in
      guard let row = RevisionKey.read(key) else {
        broken = "bucket key: a row's key is no revision"
        return false
      }
      if row.revision.main != last {
        if events.arena.count >= bytesMax, !events.isEmpty {
          stopped = last
          return false
        }
        last = row.revision.main
      }
      let isWhole =
        row.isTombstone
        ? events.appendDelete(row: value, at: row.revision)
        : events.appendPut(value, at: row.revision)
      if !isWhole { broken = "bucket key: revision \(row.revision.main) is no KeyValue" }
      return isWhole
    }
    if let broken { throw .corrupt(broken) }
    if let stopped { return stopped }
    for event in buffered.events {
      let bytes = buffered.arena.rawSpan.extracting(event.keyValue)
      let isWhole =
        event.kind == .delete
        ? events.appendDelete(row: bytes, at: event.revision)
        : events.appendPut(bytes, at: event.revision)
      precondition(isWhole, "the store's own rows are readable")
    }
    return to
  }
}

extension Store {
  /// Begins to read the changes of main revisions `from` to `to`, both inclusive.
  /// Throws `compacted` when some of them are gone.
  public borrowing func planChanges(
    from: Int64, to: Int64, reader: inout B.Reader, into plan: inout ChangesPlan
  ) throws(StoreError) {
    if from < compactRevision { throw .compacted }
    plan = ChangesPlan()
    plan.from = from
    plan.to = min(to, currentRevision)
    plan.bufferStart = Revision(main: .max, sub: .max)
    if let frozen { take(frozen, &plan) }
    take(active, &plan)
    do {
      try reader.renew()
    } catch {
      throw .backend(error)
    }
  }

  private borrowing func take(_ buffer: WriteBuffer, _ plan: inout ChangesPlan) {
    guard let first = buffer.rows.first else { return }
    plan.bufferStart = min(plan.bufferStart, first.revision)
    var at = buffer.position(Revision(main: plan.from, sub: 0))
    while at < buffer.rows.count, buffer.rows[at].revision.main <= plan.to {
      let row = buffer.rows[at]
      let bytes = buffer.arena.rawSpan.extracting(row.value)
      let isWhole =
        row.isTombstone
        ? plan.buffered.appendDelete(row: bytes, at: row.revision)
        : plan.buffered.appendPut(bytes, at: row.revision)
      precondition(isWhole, "the store's own rows are readable")
      at += 1
    }
  }
}
