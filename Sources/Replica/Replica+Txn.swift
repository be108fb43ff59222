internal import Basics
internal import Lease
internal import MVCC

extension Replica {
  /// Carries out a transaction of the log and adds the TxnResponse. etcd: `applierV3backend.Txn`.
  ///
  /// All compares are evaluated first, nested ones too, on the state before the transaction; then
  /// what could fail is checked; only then is anything written.
  mutating func apply(
    _ txn: TxnRequest, _ bytes: RawSpan, isWanted: Bool, into response: inout [UInt8],
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
    header.encode(into: &response)
    response.append(contentsOf: body)
  }

  private mutating func check(
    _ txn: TxnRequest, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan
  ) throws(Failure) {
    var afterPuts = step
    try checkPuts(txn, path, &afterPuts, bytes)
    try StoreReading.checkRanges(txn, path, &step, store)
  }

  private mutating func checkPuts(
    _ txn: TxnRequest, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan
  ) throws(Failure) {
    let ops = path[step] ? txn.success : txn.failure
    step += 1
    for op in ops {
      switch op {
      case .txn(let nested): try checkPuts(nested, path, &step, bytes)
      case .put(let put):
        if put.ignoreValue || put.ignoreLease {
          guard try stored(bytes.extracting(put.key)) != nil else { throw .keyNotFound }
        }
        if put.lease != .none, !lessor.exists(put.lease) { throw .leaseNotFound }
      default: break
      }
    }
  }

  /// Adds fields 2 and 3 of a TxnResponse.
  private mutating func carryOut(
    _ txn: TxnRequest, _ path: [Bool], _ step: inout Int, _ bytes: RawSpan, isWanted: Bool,
    into response: inout [UInt8]
  ) throws(Failure) {
    let holds = path[step]
    step += 1
    response.appendField(2, holds)
    for op in holds ? txn.success : txn.failure {
      let outer = response.beginMessage(3)
      switch op {
      case .range(let range):
        guard isWanted else { break }
        let mark = response.beginMessage(1)
        try self.range(range, bytes, header: .bare, into: &response)
        response.endMessage(mark)
      case .put(let put):
        let previous = try previous(for: put, bytes)
        write(put, bytes, previous: previous)
        let mark = response.beginMessage(2)
        ResponseHeader.bare(revision: store.currentRevision + 1).encode(into: &response)
        if put.previous, let previous { response.appendMessage(2, previous.bytes.rawSpan) }
        response.endMessage(mark)
      case .deleteRange(let delete):
        try carryOut(delete, bytes, into: &response)
      case .txn(let nested):
        let mark = response.beginMessage(4)
        ResponseHeader.bare.encode(into: &response)
        try carryOut(nested, path, &step, bytes, isWanted: isWanted, into: &response)
        response.endMessage(mark)
      case .empty: break
      }
      response.endMessage(outer)
    }
  }

  private mutating func carryOut(
    _ delete: DeleteRangeRequest, _ bytes: RawSpan, into response: inout [UInt8]
  ) throws(Failure) {
    var kept: [UInt8] = []
    if delete.previous { try collect(delete, bytes, into: &kept) }
    let count = erase(delete, bytes)
    let mark = response.beginMessage(3)
    ResponseHeader.bare(revision: revisionInTransaction).encode(into: &response)
    response.appendField(2, count)
    response.append(contentsOf: kept)
    response.endMessage(mark)
  }

  /// The revision that an operation of the open transaction reports.
  private var revisionInTransaction: Int64 {
    store.hasChanges ? store.currentRevision + 1 : store.currentRevision
  }
}

extension ResponseHeader {
  /// The header of a response inside a transaction's: etcd fills in no more than a revision.
  static func bare(revision: Int64) -> ResponseHeader {
    ResponseHeader(
      cluster: ClusterID(0), member: .none, revision: revision, term: .zero)
  }

  static var bare: ResponseHeader { bare(revision: 0) }
}

extension Compare {
  /// Whether the compare holds for one key. etcd: `compareKV`.
  func holds(for keyValue: KeyValue, _ stored: RawSpan, _ bytes: RawSpan) -> Bool {
    let order: Int
    switch target {
    case 0: order = Compare.order(keyValue.version, given == 4 ? number : 0)
    case 1: order = Compare.order(keyValue.createRevision, given == 5 ? number : 0)
    case 2: order = Compare.order(keyValue.modRevision, given == 6 ? number : 0)
    case 3: order = stored.compare(given == 7 ? bytes.extracting(value) : RawSpan())
    case 4: order = Compare.order(keyValue.lease.rawValue, given == 8 ? number : 0)
    default: order = 0
    }
    switch result {
    case 0: return order == 0
    case 1: return order > 0
    case 2: return order < 0
    case 3: return order != 0
    default: return true
    }
  }

  private static func order(_ a: Int64, _ b: Int64) -> Int { a < b ? -1 : a > b ? 1 : 0 }
}
