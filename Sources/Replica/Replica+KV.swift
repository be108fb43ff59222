internal import API
internal import Basics
internal import Lease
internal import MVCC

extension Replica {
  /// Adds a RangeResponse: the header, the key-values, `more` and `count`.
  mutating func range(
    _ request: RangeRequestView, _ bytes: RawSpan, header: ResponseHeaderView,
    into response: inout [UInt8]
  ) throws(Failure) {
    tally.ranges += 1
    var plan = RangePlan()
    try self.plan(request.query(bytes), into: &plan)
    var header = header
    header.revision = plan.revision
    response.appendHeader(header)
    try StoreReading.encode(&plan, &reader, into: &response)
  }

  /// Puts a key outside a transaction and adds the PutResponse.
  mutating func apply(
    _ put: PutRequestView, _ bytes: RawSpan, into response: inout [UInt8], _ outcome: inout Outcome
  ) throws(Failure) {
    if put.lease != .none, !lessor.exists(put.lease) { throw .leaseNotFound }
    let previous = try previous(for: put, bytes)
    store.begin()
    write(put, bytes, previous: previous)
    store.end(into: &outcome.events)
    response.appendHeader(header)
    if put.prevKV, let previous { response.appendField(2, previous.bytes.rawSpan) }
  }

  /// Deletes outside a transaction and adds the DeleteRangeResponse.
  mutating func apply(
    _ delete: DeleteRangeRequestView, _ bytes: RawSpan, into response: inout [UInt8],
    _ outcome: inout Outcome
  ) throws(Failure) {
    var kept: [UInt8] = []
    if delete.prevKV { try collect(delete, bytes, into: &kept) }
    store.begin()
    let count = erase(delete, bytes)
    store.end(into: &outcome.events)
    response.appendHeader(header)
    response.appendField(2, count)
    response.append(contentsOf: kept)
  }

  /// The key-value that a put replaces, when the put asks for any of it.
  mutating func previous(
    for put: PutRequestView, _ bytes: RawSpan
  ) throws(Failure) -> Stored? {
    guard put.prevKV || put.ignoreValue || put.ignoreLease else { return nil }
    let previous = try stored(bytes.extracting(put.key))
    if previous == nil, put.ignoreValue || put.ignoreLease { throw .keyNotFound }
    return previous
  }

  /// Writes a put into the transaction that is open, with its lease.
  mutating func write(_ put: PutRequestView, _ bytes: RawSpan, previous: Stored?) {
    let key = bytes.extracting(put.key)
    tally.puts += 1
    tally.putBytes += Int(put.key.count) + Int(put.value.count)
    var lease = put.lease
    if put.ignoreLease, let previous { lease = previous.keyValue.lease }
    lessor.detach(key)
    if lease != .none { lessor.attach(key, to: lease) }
    if put.ignoreValue, let previous {
      let old = previous.bytes.rawSpan.extracting(previous.keyValue.value)
      store.put(key: key, value: old, lease: lease)
    } else {
      store.put(key: key, value: bytes.extracting(put.value), lease: lease)
    }
  }

  /// Deletes in the transaction that is open; returns how many.
  mutating func erase(_ delete: DeleteRangeRequestView, _ bytes: RawSpan) -> Int64 {
    tally.deletes += 1
    var keys: [[UInt8]] = []
    let count = store.deleteRange(
      from: bytes.extracting(delete.key), to: bytes.extracting(delete.rangeEnd)
    ) { keys.append($0.copied()) }
    for key in keys { lessor.detach(key.rawSpan) }
    return count
  }

  /// Adds the key-values that a delete will remove, as field 3.
  mutating func collect(
    _ delete: DeleteRangeRequestView, _ bytes: RawSpan, into response: inout [UInt8]
  ) throws(Failure) {
    var plan = RangePlan()
    try self.plan(
      RangeQuery(
        key: bytes.extracting(delete.key).copied(), end: bytes.extracting(delete.rangeEnd).copied()),
      into: &plan)
    try StoreReading.execute(&plan, &reader, field: 3, into: &response)
  }

  /// Schedules a compaction and adds the CompactionResponse; false when its caller waits for the
  /// disk.
  mutating func compact(
    _ request: CompactionRequestView, id: UInt64, isWanted: Bool, into response: inout [UInt8]
  ) throws(Failure) -> Bool {
    let before = (revision: store.compactRevision, isWhole: !store.isCompacting)
    do { try store.scheduleCompaction(request.revision) } catch { throw Failure(error) }
    if config.hashesCompactions, before.isWhole {
      hashBeforeCompaction(to: request.revision, after: before.revision)
    } else {
      isCompacting = !isHashingCompaction
    }
    if isWanted, request.physical {
      physicalCompactions.append(id)
      return false
    }
    response.appendHeader(header)
    return true
  }

  /// One bounded step of a compaction under way: looks at no more than `keysMax` keys. True when
  /// nothing is left; then those who wait for it are answered. Under the write lock.
  public mutating func compactStep(keysMax: Int, into outcome: inout Outcome) -> Bool {
    guard isCompacting else { return true }
    guard store.compactStep(keysMax: keysMax) else { return false }
    isCompacting = false
    var response: [UInt8] = []
    response.appendHeader(header)
    for id in physicalCompactions { complete(id, response: response, &outcome) }
    physicalCompactions.removeAll()
    return true
  }
}
