import Basics
import Testing

@testable import MVCC

@Suite struct VerifyTests {
  /// A store of twelve keys that were put and deleted at random, a third of it compacted.
  func backend(seed: UInt64) throws -> MemoryBackend {
    let backend = MemoryBackend()
    var store = try StoreTests.open(backend)
    var random = Random(seed: seed)
    var events = EventBatch()
    for round in 0..<150 {
      store.begin()
      let key = [UInt8(97 + random.next(below: 12))]
      if random.chance(1, in: 4) {
        let end = [key[0] + 2]
        _ = store.deleteRange(from: key.rawSpan, to: end.rawSpan) { _ in }
      } else {
        let lease = LeaseID(key[0] == 97 ? 7 : 0)
        store.put(key: key.rawSpan, value: key.rawSpan, lease: lease)
        let other = [key[0] + 20]
        store.put(key: other.rawSpan, value: RawSpan(), lease: .none)
      }
      store.end(into: &events)
      if round == 60 { try store.scheduleCompaction(store.currentRevision - 5) }
      if round > 60 { _ = store.compactStep(keysMax: 3) }
      if random.chance(1, in: 9) {
        store.setConsistentIndex(LogIndex(UInt64(round)), term: Term(2))
        try backend.commit(store.freeze().batch())
        store.dropFrozen()
        let report = try Store.verify(backend: backend) { _ in }
        #expect(report.findings == [], "round \(round)")
      }
    }
    try backend.commit(store.freeze().batch())
    return backend
  }

  func findings(_ backend: MemoryBackend) throws -> [String] {
    try Store.verify(backend: backend) { _ in }.findings
  }

  /// The row of a put that follows another put of its key, with its place.
  func successor(_ backend: MemoryBackend) -> (at: Int, row: MemoryBackend.Row, version: Int64) {
    let rows = backend.tables[0]
    for (at, row) in rows.enumerated().reversed() where row.key.count == RevisionKey.byteCount {
      let version = KeyValueBytes(row.value.rawSpan)!.version
      if version == 3 { return (at, row, version) }
    }
    preconditionFailure("no key was put three times")
  }

  /// `row` with other numbers.
  func changed(
    _ row: MemoryBackend.Row, _ change: (inout KeyIndex.Hit) -> Void
  ) -> [UInt8] {
    let value = row.value
    let fields = KeyValueBytes(value.rawSpan)!
    var hit = KeyIndex.Hit(
      modified: RevisionKey.read(row.key.rawSpan)!.revision,
      created: Revision(main: fields.createRevision, sub: 0), version: fields.version)
    change(&hit)
    var bytes: [UInt8] = []
    KeyValueBytes.append(
      key: value.rawSpan.extracting(fields.key), value: value.rawSpan.extracting(fields.value),
      hit: hit, lease: .none, to: &bytes)
    return bytes
  }

  @Test(arguments: 1...8)
  func `rows that the store wrote are right, before, amid and after a compaction`(
    seed: UInt64
  ) throws {
    let report = try Store.verify(backend: try backend(seed: seed)) { _ in }
    #expect(report.findings == [] && report.findingCount == 0)
    #expect(report.rows > report.keys && report.keys > 5)
    #expect(report.consistentTerm == Term(2) && report.compactRevision > 0)
  }

  @Test func `a row that is gone, or has another version or revision, is told`() throws {
    let backend = try backend(seed: 3)
    let whole = backend.tables[0]
    let (at, row, _) = successor(backend)
    func check(_ what: String, _ change: (inout [MemoryBackend.Row]) -> Void) throws {
      backend.tables[0] = whole
      change(&backend.tables[0])
      let found = try findings(backend)
      #expect(!found.isEmpty && found[0].contains(what), "\(found)")
    }
    try check("has version 4 of a key") { $0[at].value = changed(row) { $0.version = 4 } }
    try check("after version 2") { $0[at].value = changed(row) { $0.created.main += 1 } }
    try check("says that its revision is") { $0[at].value = changed(row) { $0.modified.main = 1 } }
    try check("has version 0") { $0[at].value = changed(row) { $0.version = 0 } }
    let name = KeyValueBytes(row.value.rawSpan)!.key
    let before = whole[..<at].lastIndex { earlier in
      let fields = KeyValueBytes(earlier.value.rawSpan)!
      return earlier.value[fields.key.range] == row.value[name.range]
    }
    try check("after version 1") { $0.remove(at: before!) }
  }

  @Test func `a delete of what is not there is told`() throws {
    let backend = try backend(seed: 4)
    let newest = backend.tables[0].last!.key
    let last = RevisionKey.read(newest.rawSpan)!.revision.main
    let key = RevisionKey.bytes(Revision(main: last + 1, sub: 0), isTombstone: true)
    var value: [UInt8] = []
    let name: [UInt8] = [1]
    KeyValueBytes.appendKey(name.rawSpan, to: &value)
    var batch = WriteBatch()
    batch.put(.key, key.rawSpan, value.rawSpan)
    try backend.commit(batch)
    #expect(
      try findings(backend)
        == ["bucket key: revision \(last + 1).0 deletes a key that is not there"])
  }

  @Test func `a sub-revision that no transaction has is refused`() throws {
    let backend = try backend(seed: 5)
    for sub in [-1, 1 << 32] as [Int64] {
      var batch = WriteBatch()
      let key = RevisionKey.bytes(Revision(main: 1 << 40, sub: sub))
      let value: [UInt8] = [0x0a, 1, 97]
      batch.put(.key, key.rawSpan, value.rawSpan)
      try backend.commit(batch)
      #expect(throws: BackendError.self) { try findings(backend) }
      batch = WriteBatch()
      batch.remove(.key, key.rawSpan)
      try backend.commit(batch)
    }
  }

  @Test(arguments: ["finishedCompactRev", "scheduledCompactRev"])
  func `a compaction at what is no revision is refused`(name: String) throws {
    let backend = try backend(seed: 6)
    for main in [-1, .max] as [Int64] {
      var batch = WriteBatch()
      let value = RevisionKey.bytes(Revision(main: main, sub: 0))
      let key = [UInt8](name.utf8)
      batch.put(.meta, key.rawSpan, value.rawSpan)
      try backend.commit(batch)
      #expect(throws: BackendError.self) { try findings(backend) }
    }
  }

  @Test func `a row beyond the last revision that has a next one is refused`() throws {
    let backend = try backend(seed: 7)
    var batch = WriteBatch()
    let value: [UInt8] = [0x0a, 1, 97]
    let key = RevisionKey.bytes(Revision(main: .max, sub: 0))
    batch.put(.key, key.rawSpan, value.rawSpan)
    try backend.commit(batch)
    #expect(throws: BackendError.self) { try findings(backend) }
  }

  @Test func `after the highest version that a row can tell there is a next one`() throws {
    let backend = MemoryBackend()
    let name: [UInt8] = [97]
    let hit = KeyIndex.Hit(
      modified: Revision(main: 2, sub: 0), created: Revision(main: 2, sub: 0), version: .max)
    var value: [UInt8] = []
    KeyValueBytes.append(
      key: name.rawSpan, value: RawSpan(), hit: hit, lease: .none, to: &value)
    var batch = WriteBatch()
    let key = RevisionKey.bytes(hit.modified)
    batch.put(.key, key.rawSpan, value.rawSpan)
    try backend.commit(batch)
    var store = try StoreTests.open(backend)
    var events = EventBatch()
    store.begin()
    let next = store.put(key: name.rawSpan, value: RawSpan(), lease: .none)
    #expect(next.version > 1)
    store.end(into: &events)
    store.begin()
    let deleted = store.deleteRange(from: name.rawSpan, to: RawSpan()) { _ in }
    #expect(deleted == 1)
    store.end(into: &events)
  }
}
