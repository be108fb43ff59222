import Basics
import Testing

@testable import MVCC

/// Hashes that etcd 3.5.1 gave for these histories; `hash:<revision>=<hash>/<compact revision>`.
/// At the compacted revision itself etcd answers since 3.5.7.
@Suite struct HashTests {
  static let history = """
    hash:0=1084519789/-1 put:a:1 put:b:2 put:a:3 put:c: hash:0=3126407721/-1
    hash:3=1827592406/-1 del:a hash:0=3555882745/-1 put:a:4 put:d:5 hash:4=2069675932/-1
    compact:4 hash:3=compacted hash:4=1107643163/4 hash:5=1614336593/4 hash:0=977857196/4 del:b:d
    hash:0=2115224570/4 compact:9 hash:0=4265854156/9 put:e:6 del:e hash:0=4090609323/9
    compact:11 hash:0=4265854156/11 del:a:z hash:0=920219371/11 hash:12=920219371/11
    compact:12 hash:0=1084519789/12 put:f:7 hash:0=3812394869/12 del:f hash:0=1981841784/12
    compact:14 hash:0=1084519789/14
    """

  /// Commits come after every `commitEvery` operations. With `steps` false a compaction is only
  /// scheduled: its rows are still there, and do not count.
  @Test(arguments: [(1, true), (3, true), (7, true), (1000, true), (1, false), (1000, false)])
  func `every hash is etcd's`(commitEvery: Int, steps: Bool) throws {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    for (at, word) in Self.history.split(whereSeparator: \.isWhitespace).enumerated() {
      let parts = word.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
      let bytes = parts.map { Array($0.utf8) }
      switch parts[0] {
      case "put":
        store.begin()
        let (key, value) = (bytes[1], bytes[2])
        store.put(key: key.rawSpan, value: value.rawSpan, lease: .none)
        store.end(into: &events)
      case "del":
        store.begin()
        let (key, end) = (bytes[1], bytes.count > 2 ? bytes[2] : [])
        _ = store.deleteRange(from: key.rawSpan, to: end.rawSpan) { _ in }
        store.end(into: &events)
      case "compact":
        try store.scheduleCompaction(Int64(parts[1])!)
        while steps, !store.compactStep(keysMax: 2) {}
      default:
        let expected = parts[1].split(separator: "=").map(String.init)
        #expect(try Self.hash(store, Int64(expected[0])!) == expected[1], "\(word)")
      }
      if at % commitEvery == commitEvery - 1 {
        try backend.commit(store.freeze().batch())
        store.dropFrozen()
      }
    }
  }

  static func hash(_ store: borrowing Store<MemoryBackend>, _ revision: Int64) throws -> String {
    var reader = try store.backend.makeReader()
    do {
      var task = try store.beginHash(revision, reader: &reader)
      while try !store.stepHash(&task, reader: &reader, rowsMax: 2) {}
      return "\(task.hash)/\(task.compactRevision)"
    } catch StoreError.compacted {
      return "compacted"
    }
  }

  /// The compaction's own rows and drops are in the store, or not yet: it is the same hash.
  @Test(arguments: [1, 3, 1000]) func `what a compaction finds is its revision's hash before it`(
    commitEvery: Int
  ) throws {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    var random = Random(seed: 5)
    var compared = 0
    for round in 0..<300 {
      store.begin()
      let key = [97, UInt8(random.next(below: 7))]
      if random.chance(1, in: 3) {
        _ = store.deleteRange(from: key.rawSpan, to: RawSpan()) { _ in }
      } else {
        let value = [UInt8(random.next(below: 256))]
        store.put(key: key.rawSpan, value: value.rawSpan, lease: .none)
      }
      store.end(into: &events)
      if round % 29 == 28 {
        let (previous, current) = (store.compactRevision, store.currentRevision)
        let target = current - Int64(random.next(below: 4))
        let before = try Self.hash(store, target)
        try store.scheduleCompaction(target)
        var reader = try backend.makeReader()
        var task = try store.beginHash(
          ofCompaction: target, after: previous, reader: &reader)
        while try !store.stepHash(&task, reader: &reader, rowsMax: 3) {}
        #expect("\(task.hash)/\(task.compactRevision)" == before)
        compared += 1
        while !store.compactStep(keysMax: 2) {}
      }
      if round % commitEvery == commitEvery - 1 {
        try backend.commit(store.freeze().batch())
        store.dropFrozen()
      }
    }
    #expect(compared == 10)
  }

  /// The tombstone is what etcd keeps then, so that what was kept before it does not count.
  @Test func `a compaction to a tombstone leaves out what it deletes`() throws {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    let key: [UInt8] = [97]
    store.begin()
    store.put(key: key.rawSpan, value: key.rawSpan, lease: .none)
    store.end(into: &events)
    try store.scheduleCompaction(2)
    while !store.compactStep(keysMax: 2) {}
    store.begin()
    _ = store.deleteRange(from: key.rawSpan, to: RawSpan()) { _ in }
    store.end(into: &events)
    try store.scheduleCompaction(3)
    var reader = try backend.makeReader()
    var task = try store.beginHash(ofCompaction: 3, after: 2, reader: &reader)
    while try !store.stepHash(&task, reader: &reader, rowsMax: 3) {}
    let row = RevisionKey.bytes(Revision(main: 3, sub: 0), isTombstone: true)
    let value: [UInt8] = [10, 1, 97]
    #expect(task.hash == crc32c(value, seed: crc32c(row, seed: crc32c(Array("key".utf8)))))
  }

  @Test func `a step reads a bounded number of bytes, wherever they are`() throws {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    let value = [UInt8](repeating: 7, count: 1 << 20)
    for round in 0..<12 as Range<UInt8> {
      store.begin()
      let key = [round]
      store.put(key: key.rawSpan, value: value.rawSpan, lease: .none)
      store.end(into: &events)
      #expect(store.isReadyToHash == (store.bufferedBytes <= 8 << 20))
      if round == 5 {
        try backend.commit(store.freeze().batch())
        store.dropFrozen()
      }
    }
    var reader = try backend.makeReader()
    var task = try store.beginHash(0, reader: &reader)
    var steps = 1
    while try !store.stepHash(&task, reader: &reader, rowsMax: 1000) { steps += 1 }
    #expect(steps >= 3)
    #expect(try Self.hash(store, 0) == "\(task.hash)/-1")
  }

  @Test func `a compaction that comes between the steps of a hash does not fail it`() throws {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    for value in 1...9 as ClosedRange<UInt8> {
      store.begin()
      let (key, value) = ([97, value % 3], [value])
      store.put(key: key.rawSpan, value: value.rawSpan, lease: .none)
      store.end(into: &events)
    }
    try backend.commit(store.freeze().batch())
    store.dropFrozen()
    var reader = try backend.makeReader()
    var newest = try store.beginHash(0, reader: &reader)
    var other = try backend.makeReader()
    var early = try store.beginHash(4, reader: &other)
    #expect(try !store.stepHash(&newest, reader: &reader, rowsMax: 2))
    try store.scheduleCompaction(8)
    while !store.compactStep(keysMax: 1) {}
    while try !store.stepHash(&newest, reader: &reader, rowsMax: 2) {}
    #expect(newest.compactRevision == 8 && newest.revision == 10)
    #expect(try Self.hash(store, 0) == "\(newest.hash)/8")
    var isRefused = false
    do { _ = try store.stepHash(&early, reader: &other, rowsMax: 2) } catch {
      isRefused = error == .compacted
    }
    #expect(isRefused)
  }
}
