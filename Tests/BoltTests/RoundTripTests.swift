import Basics
import MVCC
import Testing

@testable import Bolt

@Suite struct RoundTripTests {
  @Test(arguments: [0, 1, 2, 3, 13, 14, 100, 3000], [1024, 4096, 16384])
  func `rows come back as they went in`(count: Int, pageSize: Int) throws {
    var random = Random(seed: UInt64(count * 7 + pageSize))
    let buckets = [
      Contents("alarm", []),
      Contents("key", randomRows(count, largest: 30_000, &random)),
      Contents("meta", randomRows(3, largest: 10, &random)),
    ]
    let file = try write(buckets, pageSize: pageSize)
    #expect(file.count % pageSize == 0)
    #expect(try read(file) == buckets)
  }

  @Test(arguments: 0..<12)
  func `any number of rows and buckets comes back`(seed: Int) throws {
    var random = Random(seed: UInt64(seed))
    var buckets: [Contents] = []
    for name in 0..<random.next(below: 60) {
      let rows = randomRows(random.next(below: 300), largest: 9000, &random)
      buckets.append(Contents("bucket-\(100 + name)", rows))
    }
    #expect(try read(try write(buckets, pageSize: 1024)) == buckets)
  }

  @Test func `the first pass tells the size of the file`() throws {
    var random = Random(seed: 3)
    let buckets = [Contents("key", randomRows(500, largest: 20_000, &random))]
    var counter = BoltWriter(countingPagesOf: 4096)
    let layout = try pass(&counter, buckets) { #expect($0.isEmpty) }
    #expect(layout.bytes == (try write(buckets, pageSize: 4096)).count)
  }

  @Test func `the longest keys and values beyond a page make deep trees`() throws {
    let rows = (0..<40).map { at in
      Row(
        key: number(at, bytes: 4) + [UInt8](repeating: 1, count: BoltLimits.keyBytesMax - 4),
        value: [UInt8](repeating: UInt8(at), count: at == 7 ? 5 << 20 : 10))
    }
    let buckets = [Contents("key", rows)]
    #expect(try read(try write(buckets, pageSize: 1024)) == buckets)
  }

  @Test func `rows that bbolt would not take are refused`() {
    let long = Row(key: [UInt8](repeating: 1, count: BoltLimits.keyBytesMax + 1), value: [])
    #expect(throws: BoltError.self) { try write([Contents("a", [long])], pageSize: 4096) }
    let empty = Row(key: [], value: [])
    #expect(throws: BoltError.self) { try write([Contents("a", [empty])], pageSize: 4096) }
    let twice = Row(key: [1], value: [])
    #expect(throws: BoltError.self) { try write([Contents("a", [twice, twice])], pageSize: 4096) }
  }

  @Test func `rows that changed between the passes are noticed`() throws {
    var random = Random(seed: 9)
    let rows = randomRows(200, largest: 100, &random)
    var counter = BoltWriter(countingPagesOf: 4096)
    let layout = try pass(&counter, [Contents("a", rows)]) { _ in }
    var writer = BoltWriter(writing: layout)
    #expect(throws: BoltError.self) {
      try pass(&writer, [Contents("a", Array(rows.dropLast(100)))]) { _ in }
    }
  }

  @Test func `a bucket can be read alone, and left early`() throws {
    var random = Random(seed: 4)
    let rows = randomRows(900, largest: 100, &random)
    let bytes = try write([Contents("a", []), Contents("b", rows)], pageSize: 1024)
    var file = try BoltFile.open(source(bytes))
    let buckets = try file.buckets()
    #expect(buckets.map(\.name) == [Array("a".utf8), Array("b".utf8)])
    for _ in 0..<2 {
      var keys: [[UInt8]] = []
      try file.scan(buckets[1]) { key, _ in
        keys.append(key.copied())
        return keys.count < 400
      }
      #expect(keys == rows.prefix(400).map(\.key))
    }
  }

  @Test func `a store is written with every bucket, and rows of meta beside its own`() throws {
    let backend = MemoryBackend()
    var batch = WriteBatch()
    for at in 1...300 {
      let key = number(at, bytes: 8) + [UInt8(ascii: "_")] + number(0, bytes: 8)
      let value = [UInt8](repeating: 5, count: at)
      batch.put(.key, key.rawSpan, value.rawSpan)
    }
    for name in ["consistent_index", "term"] {
      let key = Array(name.utf8)
      let value = number(300, bytes: 8)
      batch.put(.meta, key.rawSpan, value.rawSpan)
    }
    try backend.commit(batch)
    let reader = try backend.makeReader()
    try reader.renew()
    let extra = [
      (key: Array("confState".utf8), value: [UInt8(1)]),
      (key: Array("term".utf8), value: number(9, bytes: 8)),
      (key: Array("zone".utf8), value: []),
    ]
    let export = try StoreExport(planning: reader, pageSize: 4096, metaRows: extra)
    var file: [UInt8] = []
    try export.write(from: reader) { piece in
      file.append(contentsOf: piece)
      return true
    }
    #expect(file.count == export.layout.bytes)
    let found = try read(file)
    #expect(
      found.map { String(decoding: $0.name, as: UTF8.self) } == [
        "alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members",
        "members_removed", "meta",
      ])
    #expect(found[5].rows.count == 300)
    #expect(
      found[9].rows == [
        Row(key: Array("confState".utf8), value: [1]),
        Row(key: Array("consistent_index".utf8), value: number(300, bytes: 8)),
        Row(key: Array("term".utf8), value: number(9, bytes: 8)),
        Row(key: Array("zone".utf8), value: []),
      ])
    #expect(throws: StoreExportError.stopped) { try export.write(from: reader) { _ in false } }
  }
}
