internal import API
internal import Basics
internal import Lease
internal import MVCC

extension Replica {
  /// Carries out a transaction of the log and adds the TxnResponse. etcd: `applierV3backend.Txn`.
  ///
  /// All compares are evaluated first, nested ones too, on the state before the transaction; then
  /// what could fail is checked; only then is anything written.
  mutating func apply(
    _ txn: Txn, _ bytes: RawSpan, isWanted: Bool, into response: inout [UInt8],
    _ outcome: inout Outcome
  ) throws(Failure) {
    var path: [Bool] = []
    try StoreReading.choose(txn, bytes, store, &reader, into: &path)
    var step = 0
    try check(txn, path, &step, bytes)
    store.begin()
    step = 0
    var body: [UInt8] = []
    var failure: Failure?
    do throws(Failure) {
      try carryOut(txn, path, &step, bytes, isWanted: isWanted, into: &body)
    } catch {
      failure = error
    }
    store.end(into: &outcome.events)
    if let failure { throw failure }
    response.appendHeader(header)
    response.append(contentsOf: body)
  }

  private mutating func check(
    _ txn: Txn, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan
  ) throws(Failure) {
    var afterPuts = step
    var deletes: [DeleteRangeRequestView] = []
    try checkPuts(txn, path, &afterPuts, bytes, after: &deletes)
    try StoreReading.checkRanges(txn, path, &step, store)
  }

  /// `deletes`: those that are carried out before. What they leave nothing of cannot be kept; etcd
  /// ends itself over it.
  private mutating func checkPuts(
    _ txn: Txn, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan,
    after deletes: inout [DeleteRangeRequestView]
  ) throws(Failure) {
    let ops = path[step] ? txn.success : txn.failure
    step += 1
    for op in ops {
      switch op {
      case .txn(let nested): try checkPuts(nested, path, &step, bytes, after: &deletes)
      case .deleteRange(let delete): deletes.append(delete)
      case .put(let put):
        if put.ignoreValue || put.ignoreLease {
          let key = bytes.extracting(put.key)
          for delete in deletes where delete.covers(key, bytes) { throw .keyNotFound }
          guard try stored(key) != nil else { throw .keyNotFound }
        }
        if put.lease != .none, !lessor.exists(put.lease) { throw .leaseNotFound }
      default: break
      }
    }
  }

  /// Adds fields 2 and 3 of a TxnResponse.
  private mutating func carryOut(
    _ txn: Txn, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan, isWanted: Bool,
    into response: inout [UInt8]
  ) throws(Failure) {
    let holds = path[step]
    step += 1
    response.appendField(2, holds)
    for op in holds ? txn.success : txn.failure {
      let outer = response.beginField(3, expecting: 0)
      switch op {
      case .range(let range):
        guard isWanted else { break }
        let mark = response.beginField(1, expecting: 0)
        try self.range(range, bytes, header: ResponseHeaderView(revision: 0), into: &response)
        response.endField(mark)
      case .put(let put):
        let previous = try previous(for: put, bytes)
        write(put, bytes, previous: previous)
        let mark = response.beginField(2, expecting: 0)
        response.appendHeader(ResponseHeaderView(revision: store.currentRevision + 1))
        if put.prevKV, let previous { response.appendField(2, previous.bytes.rawSpan) }
        response.endField(mark)
      case .deleteRange(let delete):
        try carryOut(delete, bytes, into: &response)
      case .txn(let nested):
        let mark = response.beginField(4, expecting: 0)
        response.appendHeader(ResponseHeaderView(revision: 0))
        try carryOut(nested, path, &step, bytes, isWanted: isWanted, into: &response)
        response.endField(mark)
      case .empty: break
      }
      response.endField(outer)
    }
  }

  private mutating func carryOut(
    _ delete: DeleteRangeRequestView, _ bytes: RawSpan, into response: inout [UInt8]
  ) throws(Failure) {
    var kept: [UInt8] = []
    if delete.prevKV { try collect(delete, bytes, into: &kept) }
    let count = erase(delete, bytes)
    let mark = response.beginField(3, expecting: 0)
    response.appendHeader(ResponseHeaderView(revision: revisionInTransaction))
    response.appendField(2, count)
    response.append(contentsOf: kept)
    response.endField(mark)
  }

  /// The revision that an operation of the open transaction reports.
  private var revisionInTransaction: Int64 {
    store.hasChanges ? store.currentRevision + 1 : store.currentRevision
  }
}

extension DeleteRangeRequestView {
  fileprivate func covers(_ key: RawSpan, _ bytes: RawSpan) -> Bool {
    let order = key.compare(bytes.extracting(self.key))
    guard !rangeEnd.isEmpty else { return order == 0 }
    let end = bytes.extracting(rangeEnd)
    let isOpen = end.byteCount == 1 && end[0] == 0
    return order >= 0 && (isOpen || key.compare(end) < 0)
  }
}

extension CompareView {
  /// Whether the compare holds for one key. A union that does not fit the target counts as zero.
  /// etcd: `compareKV`.
  func holds(for keyValue: KeyValueView, _ stored: RawSpan, _ bytes: RawSpan) -> Bool {
    let order: Int
    switch (target, union) {
    case (.version, .version(let number)): order = Self.order(keyValue.version, number)
    case (.version, _): order = Self.order(keyValue.version, 0)
    case (.create, .createRevision(let number)):
      order = Self.order(keyValue.createRevision, number)
    case (.create, _): order = Self.order(keyValue.createRevision, 0)
    case (.mod, .modRevision(let number)): order = Self.order(keyValue.modRevision, number)
    case (.mod, _): order = Self.order(keyValue.modRevision, 0)
    case (.value, .value(let value)): order = stored.compare(bytes.extracting(value))
    case (.value, _): order = stored.byteCount
    case (.lease, .lease(let lease)):
      order = Self.order(keyValue.lease.rawValue, lease.rawValue)
    case (.lease, _): order = Self.order(keyValue.lease.rawValue, 0)
    default: order = 0
    }
    switch result {
    case .equal: return order == 0
    case .greater: return order > 0
    case .less: return order < 0
    case .notEqual: return order != 0
    default: return true
    }
  }

  private static func order(_ a: Int64, _ b: Int64) -> Int { a < b ? -1 : a > b ? 1 : 0 }
}
