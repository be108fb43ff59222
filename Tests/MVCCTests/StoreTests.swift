import Basics
import Testing

@testable import MVCC

@Suite struct StoreTests {
  /// A plain model: every revision's live keys with value, created, modified and version.
  struct Model {
    struct Row: Equatable {
      var value: [UInt8]
      var created: Int64
      var modified: Int64
      var version: Int64
    }
    var history: [[[UInt8]: Row]] = [[:], [:]]
    var revision: Int64 { Int64(history.count - 1) }
  }

  static func open(_ backend: MemoryBackend) throws -> Store<MemoryBackend> {
    var leased: [LeasedKey] = []
    return try Store.open(backend: backend, leased: &leased) { _ in }
  }

  static func answer(
    _ store: borrowing Store<MemoryBackend>, _ query: RangeQuery
  ) throws -> (rows: [KeyValueBytes], bytes: [UInt8], plan: RangePlan) {
    var reader = try store.backend.makeReader()
    var plan = RangePlan()
    try store.plan(query, reader: &reader, into: &plan)
    var bytes: [UInt8] = []
    try plan.execute(reader: &reader, field: 2, into: &bytes)
    var rows: [KeyValueBytes] = []
    var at = 0
    let span = bytes.rawSpan
    while at < bytes.count {
      _ = span.varint(at: &at)
      let count = Int(span.varint(at: &at)!)
      guard var row = KeyValueBytes(span.extracting(at..<at + count)) else {
        throw BackendError.failed("no KeyValue")
      }
      row.key = Slice(start: at + Int(row.key.start), count: Int(row.key.count))
      row.value = Slice(start: at + Int(row.value.start), count: Int(row.value.count))
      rows.append(row)
      at += count
    }
    return (rows, bytes, plan)
  }

  static func change(
    _ store: inout Store<MemoryBackend>, _ model: inout Model, _ random: inout Random
  )
    -> EventBatch
  {
    var events = EventBatch()
    var live = model.history[model.history.count - 1]
    let next = model.revision + 1
    store.begin()
    for _ in 0...random.next(below: 3) {
      let key = [UInt8(97 + random.next(below: 12))]
      if random.chance(1, in: 4) {
        let end: [UInt8] = random.chance(1, in: 2) ? [] : [key[0] + 3]
        let deleted = store.deleteRange(from: key.rawSpan, to: end.rawSpan) { _ in }
        let gone = live.keys.filter { end.isEmpty ? $0 == key : $0[0] >= key[0] && $0[0] < end[0] }
        #expect(Int(deleted) == gone.count)
        for name in gone { live[name] = nil }
      } else if live[key]?.modified != next {
        let value = (0..<random.next(below: 5)).map { _ in UInt8(truncatingIfNeeded: random.next())
        }
        store.put(key: key.rawSpan, value: value.rawSpan, lease: .none)
        live[key] = Model.Row(
          value: value, created: live[key]?.created ?? next, modified: next,
          version: (live[key]?.version ?? 0) + 1)
      }
    }
    let changed = store.hasChanges
    store.end(into: &events)
    if changed { model.history.append(live) }
    #expect(store.currentRevision == model.revision)
    return events
  }

  @Test(arguments: 0..<30)
  func `every revision reads as the model has it, through commits, compactions and restarts`(
    seed: UInt64
  ) throws {
    var random = Random(seed: seed)
    let backend = MemoryBackend()
    var store = try Self.open(backend)
    var model = Model()
    var pending: WriteBatch?
    for _ in 0..<120 {
      _ = Self.change(&store, &model, &random)
      if random.chance(1, in: 6), pending == nil { pending = store.freeze().batch() }
      if random.chance(1, in: 4), let batch = pending {
        try backend.commit(batch)
        store.dropFrozen()
        pending = nil
      }
      if random.chance(1, in: 20), store.currentRevision > store.compactRevision {
        try store.scheduleCompaction(
          max(store.compactRevision + 1, store.currentRevision - Int64(random.next(below: 9))))
      }
      _ = store.compactStep(keysMax: 1 + random.next(below: 5))
      if random.chance(1, in: 30) {
        if let batch = pending { try backend.commit(batch) }
        if pending != nil { store.dropFrozen() }
        pending = nil
        try backend.commit(store.freeze().batch())
        store = try Self.open(backend)
      }
      try check(store, model, &random)
    }
  }

  func check(
    _ store: borrowing Store<MemoryBackend>, _ model: Model, _ random: inout Random
  ) throws {
    let revision = model.revision - Int64(random.next(below: 8))
    var query = RangeQuery(key: [97], end: random.chance(1, in: 2) ? [0] : [105])
    query.revision = max(1, revision)
    query.limit = random.next(below: 5)
    query.order = RangeQuery.Order(rawValue: UInt8(random.next(below: 3)))!
    query.keysOnly = random.chance(1, in: 4)
    if query.revision < store.compactRevision {
      let isCompacted: Bool
      do {
        _ = try Self.answer(store, query)
        isCompacted = false
      } catch { isCompacted = error as? StoreError == .compacted }
      #expect(isCompacted)
      return
    }
    let (rows, bytes, plan) = try Self.answer(store, query)
    var expected = model.history[Int(query.revision)]
      .filter { query.end == [0] || $0.key[0] < query.end[0] }
      .sorted { $0.key[0] < $1.key[0] }
    #expect(plan.count == expected.count)
    if query.order == .descend { expected.reverse() }
    if query.limit > 0, expected.count > query.limit {
      expected = Array(expected[..<query.limit])
      #expect(plan.more)
    }
    #expect(rows.map { Array(bytes[$0.key.range]) } == expected.map(\.key))
    #expect(rows.map(\.createRevision) == expected.map(\.value.created))
    #expect(rows.map(\.version) == expected.map(\.value.version))
    if !query.keysOnly {
      #expect(rows.map { Array(bytes[$0.value.range]) } == expected.map(\.value.value))
    }
  }

  @Test(arguments: 0..<10)
  func `changes read back are the events, and the hash outlives commits and restarts`(
    seed: UInt64
  ) throws {
    var random = Random(seed: seed &+ 1000)
    let backend = MemoryBackend()
    var store = try Self.open(backend)
    var model = Model()
    var all: [(Revision, [UInt8])] = []
    for step in 0..<60 {
      let events = Self.change(&store, &model, &random)
      for event in events.events {
        all.append((event.revision, Array(events.arena[event.keyValue.range])))
      }
      if step % 17 == 16 {
        try backend.commit(store.freeze().batch())
        store.dropFrozen()
      }
    }
    var reader = try backend.makeReader()
    var read: [(Revision, [UInt8])] = []
    var next: Int64 = 2
    while next <= store.currentRevision {
      var plan = ChangesPlan()
      try store.planChanges(from: next, to: .max, reader: &reader, into: &plan)
      var events = EventBatch()
      next = try plan.execute(reader: &reader, bytesMax: 40, into: &events) + 1
      for event in events.events {
        read.append((event.revision, Array(events.arena[event.keyValue.range])))
      }
    }
    #expect(read.map(\.0) == all.map(\.0))
    #expect(read.map(\.1) == all.map(\.1))
    let before = try Self.hash(store, rowsMax: 7)
    try backend.commit(store.freeze().batch())
    store = try Self.open(backend)
    #expect(try Self.hash(store, rowsMax: 1000) == before)
  }

  static func hash(_ store: borrowing Store<MemoryBackend>, rowsMax: Int) throws -> UInt32 {
    var reader = try store.backend.makeReader()
    var task = try store.beginHash(0, reader: &reader)
    while try !store.stepHash(&task, reader: &reader, rowsMax: rowsMax) {}
    return task.hash
  }

  @Test func `a row is encoded as etcd encodes it`() {
    var bytes: [UInt8] = []
    KeyValueBytes.append(
      key: Array("foo".utf8).rawSpan, value: Array("bar".utf8).rawSpan,
      hit: KeyIndex.Hit(
        modified: Revision(main: 300, sub: 0), created: Revision(main: 2, sub: 0), version: 1),
      lease: .none, to: &bytes)
    #expect(
      bytes == [10, 3, 102, 111, 111, 16, 2, 24, 172, 2, 32, 1, 42, 3, 98, 97, 114])
  }
}
