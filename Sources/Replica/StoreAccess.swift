public import API
internal import Basics
public import MVCC

/// One key-value as the store holds it, with the bytes it lies in.
struct Stored {
  var keyValue: KeyValueView
  var bytes: [UInt8]
}

extension Failure {
  init(_ error: StoreError) {
    switch error {
    case .compacted: self = .compacted
    case .future: self = .futureRevision
    case .backend(let error): self.init(error)
    }
  }
}

extension Failure {
  /// What a client is told when the storage engine fails a read.
  public init(_ error: BackendError) {
    self.init(.dataLoss, Self.storage + error.text)
  }

  private static let storage = "martlet: storage: "

  /// Whether the storage engine failed, which it does on this member alone.
  var isOfStorage: Bool { code == .dataLoss && text.hasPrefix(Self.storage) }
}

extension RangeRequestView {
  /// The request as the store takes it.
  public func query(_ bytes: RawSpan) -> RangeQuery {
    var query = RangeQuery(
      key: bytes.extracting(key).copied(), end: bytes.extracting(rangeEnd).copied())
    query.revision = revision
    // The store looks for one row more than the limit.
    query.limit = min(Int(clamping: limit), Int.max - 1)
    if let order = RangeQuery.Order(rawValue: UInt8(clamping: sortOrder.rawValue)) {
      query.order = order
      query.target = RangeQuery.Target(rawValue: UInt8(clamping: sortTarget.rawValue)) ?? .key
    } else {
      // etcd then takes the keys as they come, after fetching all.
      query.order = .ascend
    }
    query.keysOnly = keysOnly
    query.countOnly = countOnly
    query.modMin = minModRevision
    query.modMax = maxModRevision
    query.createMin = minCreateRevision
    query.createMax = maxCreateRevision
    return query
  }
}

/// Plans and carries out reads of a store: what the apply thread does inside transactions and an
/// io loop does for transactions of ranges only.
public enum StoreReading {
  /// Plans a range. Refused when the revision is compacted or not there yet.
  public static func plan<B: Backend>(
    _ query: RangeQuery, _ store: borrowing Store<B>, _ reader: inout B.Reader,
    into plan: inout RangePlan
  ) throws(Failure) {
    do { try store.plan(query, reader: &reader, into: &plan) } catch { throw Failure(error) }
  }

  /// Adds fields 2 to 4 of a RangeResponse.
  public static func encode<R: BackendReader>(
    _ plan: inout RangePlan, _ reader: inout R, into response: inout [UInt8]
  ) throws(Failure) {
    try execute(&plan, &reader, field: 2, into: &response)
    response.appendField(3, plan.more)
    response.appendField(4, Int64(plan.count))
  }

  /// Carries out a plan: adds every key-value as field `field`.
  static func execute<R: BackendReader>(
    _ plan: inout RangePlan, _ reader: inout R, field: Int, into bytes: inout [UInt8]
  ) throws(Failure) {
    do { try plan.execute(reader: &reader, field: field, into: &bytes) } catch {
      throw Failure(error)
    }
  }

  /// Carries out the plan of one key and adds its encoded key-value; false when there is none.
  public static func first<R: BackendReader>(
    _ plan: inout RangePlan, _ reader: inout R, into bytes: inout [UInt8]
  ) throws(Failure) -> Bool {
    var found: [UInt8] = []
    try execute(&plan, &reader, field: 1, into: &found)
    var cursor = ProtoReader(found.rawSpan)
    guard let tag = try? cursor.nextTag(), let slice = try? cursor.bytes(tag) else {
      return false
    }
    bytes.append(contentsOf: found.rawSpan.extracting(slice))
    return true
  }

  /// The newest state of the keys of a range, the writes of an open transaction included.
  static func stored<B: Backend>(
    _ query: RangeQuery, _ store: borrowing Store<B>, _ reader: inout B.Reader
  ) throws(Failure) -> [Stored] {
    var plan = RangePlan()
    try self.plan(query, store, &reader, into: &plan)
    var bytes: [UInt8] = []
    try execute(&plan, &reader, field: 1, into: &bytes)
    var found: [Stored] = []
    let span = bytes.rawSpan
    var cursor = ProtoReader(span)
    while let tag = try? cursor.nextTag(), let message = try? cursor.bytes(tag) {
      let own = span.extracting(message).copied()
      guard let keyValue = try? KeyValueView(own.rawSpan) else {
        preconditionFailure("the backend holds a row that is no key-value")
      }
      found.append(Stored(keyValue: keyValue, bytes: own))
    }
    return found
  }

  /// Decides for `txn` and the transactions on the branch it takes, depth first.
  public static func choose<B: Backend>(
    _ txn: Txn, _ bytes: RawSpan, _ store: borrowing Store<B>, _ reader: inout B.Reader,
    into path: inout [Bool]
  ) throws(Failure) {
    var holds = true
    for compare in txn.compares where holds {
      holds = try self.holds(compare, bytes, store, &reader)
    }
    path.append(holds)
    for case .txn(let nested) in holds ? txn.success : txn.failure {
      try choose(nested, bytes, store, &reader, into: &path)
    }
  }

  private static func holds<B: Backend>(
    _ compare: CompareView, _ bytes: RawSpan, _ store: borrowing Store<B>, _ reader: inout B.Reader
  ) throws(Failure) -> Bool {
    let query = RangeQuery(
      key: bytes.extracting(compare.key).copied(), end: bytes.extracting(compare.rangeEnd).copied())
    let found = try stored(query, store, &reader)
    if found.isEmpty {
      // A value that is not there equals nothing, not even the empty one.
      return compare.target != .value && compare.holds(for: KeyValueView(), RawSpan(), bytes)
    }
    for one in found {
      let value = one.bytes.rawSpan.extracting(one.keyValue.value)
      if !compare.holds(for: one.keyValue, value, bytes) { return false }
    }
    return true
  }

  /// Refuses a transaction whose ranges ask for revisions that cannot be read.
  /// `step` counts along `path`.
  public static func checkRanges<B: Backend>(
    _ txn: Txn, _ path: [Bool], _ step: inout Int, _ store: borrowing Store<B>
  ) throws(Failure) {
    let ops = path[step] ? txn.success : txn.failure
    step += 1
    for op in ops {
      switch op {
      case .txn(let nested): try checkRanges(nested, path, &step, store)
      case .range(let range):
        guard range.revision != 0 else { break }
        if range.revision > store.currentRevision { throw .futureRevision }
        if range.revision < store.compactRevision { throw .compacted }
      default: break
      }
    }
  }
}

extension Replica {
  mutating func plan(_ query: RangeQuery, into plan: inout RangePlan) throws(Failure) {
    try StoreReading.plan(query, store, &reader, into: &plan)
  }

  /// The newest state of a key, the writes of an open transaction included.
  mutating func stored(_ key: RawSpan) throws(Failure) -> Stored? {
    try StoreReading.stored(RangeQuery(key: key.copied(), end: []), store, &reader).first
  }
}
