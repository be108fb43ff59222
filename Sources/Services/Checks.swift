internal import API
internal import Basics
internal import Replica

/// What requests are refused for before anything is asked of the log.
/// etcd: api/v3rpc/key.go.
enum Checks {
  static func check(_ request: RangeRequestView) throws(Failure) {
    if request.key.isEmpty { throw .emptyKey }
  }

  static func check(_ request: PutRequestView) throws(Failure) {
    if request.key.isEmpty { throw .emptyKey }
    if request.ignoreValue, !request.value.isEmpty { throw .valueProvided }
    if request.ignoreLease, request.lease != .none { throw .leaseProvided }
  }

  static func check(_ request: DeleteRangeRequestView) throws(Failure) {
    if request.key.isEmpty { throw .emptyKey }
  }

  /// `operationsMax` shrinks with every level of nesting by what the level above holds.
  static func check(_ request: Txn, operationsMax: Int) throws(Failure) {
    let count = max(request.compares.count, request.success.count, request.failure.count)
    if count > operationsMax { throw .tooManyOperations }
    for compare in request.compares where compare.key.isEmpty { throw .emptyKey }
    for op in request.success { try check(op, operationsMax: operationsMax - count) }
    for op in request.failure { try check(op, operationsMax: operationsMax - count) }
  }

  private static func check(_ op: Txn.Op, operationsMax: Int) throws(Failure) {
    switch op {
    case .range(let range): try check(range)
    case .put(let put): try check(put)
    case .deleteRange(let delete): try check(delete)
    case .txn(let txn): try check(txn, operationsMax: operationsMax)
    case .empty: throw .keyNotFound
    }
  }

  /// Refuses a transaction of which one branch writes a key twice. etcd: `checkIntervals`.
  static func checkOverlaps(_ request: Txn, _ bytes: RawSpan) throws(Failure) {
    _ = try writes(request.success, bytes)
    _ = try writes(request.failure, bytes)
  }

  /// What a branch writes: keys put, sorted, and ranges deleted.
  private struct Writes {
    var puts: [Slice] = []
    var deletes: [DeleteRangeRequestView] = []
  }

  private static func writes(
    _ ops: [Txn.Op], _ bytes: RawSpan
  ) throws(Failure) -> Writes {
    var all = Writes()
    for case .deleteRange(let delete) in ops { all.deletes.append(delete) }
    for case .txn(let nested) in ops {
      let then = try writes(nested.success, bytes)
      let otherwise = try writes(nested.failure, bytes)
      let before = all.puts
      for key in then.puts {
        try refuse(key, deletedBy: all.deletes, putBy: before, bytes)
        insert(key, into: &all.puts, bytes)
      }
      for key in otherwise.puts {
        // Only one branch of the nested transaction is taken, so both may put the same key.
        try refuse(key, deletedBy: all.deletes, putBy: before, bytes)
        insert(key, into: &all.puts, bytes)
      }
      all.deletes += then.deletes + otherwise.deletes
    }
    for case .put(let put) in ops {
      try refuse(put.key, deletedBy: all.deletes, putBy: all.puts, bytes)
      insert(put.key, into: &all.puts, bytes)
    }
    return all
  }

  private static func refuse(
    _ key: Slice, deletedBy deletes: [DeleteRangeRequestView], putBy puts: [Slice], _ bytes: RawSpan
  ) throws(Failure) {
    let place = position(of: key, in: puts, bytes)
    let span = bytes.extracting(key)
    if place < puts.count, bytes.extracting(puts[place]).equals(span) { throw .duplicateKey }
    for delete in deletes where covers(delete, span, bytes) { throw .duplicateKey }
  }

  private static func covers(
    _ delete: DeleteRangeRequestView, _ key: RawSpan, _ bytes: RawSpan
  ) -> Bool {
    let order = key.compare(bytes.extracting(delete.key))
    guard !delete.rangeEnd.isEmpty else { return order == 0 }
    // As in etcd, "\0" is the smallest key here rather than no end: who deletes all from a key on
    // may put keys in the same transaction.
    return order >= 0 && key.compare(bytes.extracting(delete.rangeEnd)) < 0
  }

  private static func insert(_ key: Slice, into puts: inout [Slice], _ bytes: RawSpan) {
    puts.insert(key, at: position(of: key, in: puts, bytes))
  }

  /// The first place whose key is not below `key`.
  private static func position(of key: Slice, in puts: [Slice], _ bytes: RawSpan) -> Int {
    let span = bytes.extracting(key)
    var low = 0
    var high = puts.count
    while low < high {
      let middle = (low + high) / 2
      if bytes.extracting(puts[middle]).compare(span) < 0 {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }
}
