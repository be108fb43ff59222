internal import Basics

/// What a range asks for, as etcd's RangeRequest.
public struct RangeQuery: Sendable {
  public enum Order: UInt8, Sendable { case none, ascend, descend }
  public enum Target: UInt8, Sendable { case key, version, create, mod, value }

  public var key: [UInt8]
  /// Empty for one key; a zero byte for all from `key` on.
  public var end: [UInt8]
  /// 0 for the newest.
  public var revision: Int64 = 0
  /// 0 for all.
  public var limit = 0
  public var order = Order.none
  public var target = Target.key
  public var keysOnly = false
  public var countOnly = false
  public var modMin: Int64 = 0
  public var modMax: Int64 = 0
  public var createMin: Int64 = 0
  public var createMax: Int64 = 0

  public init(key: [UInt8], end: [UInt8]) {
    self.key = key
    self.end = end
  }

  var isFiltered: Bool { modMin != 0 || modMax != 0 || createMin != 0 || createMax != 0 }

  func admits(_ hit: KeyIndex.Hit) -> Bool {
    (modMin == 0 || hit.modified.main >= modMin) && (modMax == 0 || hit.modified.main <= modMax)
      && (createMin == 0 || hit.created.main >= createMin)
      && (createMax == 0 || hit.created.main <= createMax)
  }
}

/// The rows that answer a range: found under the store's lock, fetched without it.
public struct RangePlan: Sendable {
  struct Item: Sendable {
    var hit: KeyIndex.Hit
    /// Its KeyValue in `arena`; nil while it is only in the backend.
    var value: Slice?
  }

  /// Keys in the range, whatever the limit and the filters.
  public internal(set) var count = 0
  /// Whether the limit cut the answer.
  public internal(set) var more = false
  /// The store's revision when the plan was made.
  public internal(set) var revision: Int64 = 0
  var items: [Item] = []
  var arena: [UInt8] = []
  var keysOnly = false
  /// The limit of an answer that is sorted by value, and so cut only when the values are there.
  var cutAfterSort = 0
  var valueOrder = RangeQuery.Order.none

  public init() {}

  /// How many rows the plan will give; with a sort by value at most.
  public var rowCount: Int { items.count }

  /// Fetches what the backend holds, sorts if the values decide, and appends each KeyValue as
  /// length-delimited field `field`. `reader` is the one that the plan was made with.
  public mutating func execute<R: BackendReader>(
    reader: inout R, field: Int, into bytes: inout [UInt8]
  ) throws(BackendError) {
    if valueOrder == .none, items.count == 1, !keysOnly, let slice = items[0].value {
      append(arena.rawSpan.extracting(slice), field, to: &bytes)
      return
    }
    if valueOrder != .none {
      for at in items.indices { items[at].value = try fetch(items[at], reader) }
      sortByValue()
      cut(to: cutAfterSort)
    }
    var key: [UInt8] = []
    for item in items {
      if let slice = item.value {
        append(arena.rawSpan.extracting(slice), field, to: &bytes)
        continue
      }
      let start = arena.count
      key.removeAll(keepingCapacity: true)
      RevisionKey.append(item.hit.modified, isTombstone: false, to: &key)
      guard try reader.get(.key, key.rawSpan, into: &arena) else { throw Self.missing(item) }
      append(arena.rawSpan.extracting(start..<arena.count), field, to: &bytes)
      arena.removeLast(arena.count - start)
    }
  }

  private mutating func fetch<R: BackendReader>(
    _ item: Item, _ reader: R
  ) throws(BackendError) -> Slice {
    if let slice = item.value { return slice }
    let start = arena.count
    let key = RevisionKey.bytes(item.hit.modified)
    guard try reader.get(.key, key.rawSpan, into: &arena) else { throw Self.missing(item) }
    return Slice(start: start, count: arena.count - start)
  }

  private static func missing(_ item: Item) -> BackendError {
    let revision = item.hit.modified
    return .corrupt(
      "bucket key: revision \(revision.main).\(revision.sub) is in the index and not in the store")
  }

  private mutating func sortByValue() {
    let keyed = items.enumerated().map { at, item in
      let row = arena.rawSpan.extracting(item.value ?? .empty)
      let value = KeyValueBytes(row).map { row.extracting($0.value).copied() } ?? []
      return (at: at, value: value, item: item)
    }
    let descends = valueOrder == .descend
    items = keyed.sorted { a, b in
      let order = a.value.rawSpan.compare(b.value.rawSpan)
      return order == 0 ? a.at < b.at : (order < 0) != descends
    }.map(\.item)
  }

  mutating func cut(to limit: Int) {
    guard limit > 0, items.count > limit else { return }
    items.removeLast(items.count - limit)
    more = true
  }

  private func append(_ row: RawSpan, _ field: Int, to bytes: inout [UInt8]) {
    bytes.appendVarint(UInt64(field << 3 | 2))
    guard keysOnly, let fields = KeyValueBytes(row), !fields.valueField.isEmpty else {
      bytes.appendVarint(UInt64(row.byteCount))
      bytes.append(contentsOf: row)
      return
    }
    let cut = fields.valueField.range
    bytes.appendVarint(UInt64(row.byteCount - cut.count))
    bytes.append(contentsOf: row.extracting(0..<cut.lowerBound))
    bytes.append(contentsOf: row.extracting(cut.upperBound..<row.byteCount))
  }
}
