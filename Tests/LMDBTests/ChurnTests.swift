import Basics
import Foundation
import LMDB
import MVCC
import Testing

/// What LMDB itself writes is never refused.
@Suite struct ChurnTests {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("martlet-churn-\(UUID().uuidString)").path

  func remove() {
    for suffix in ["", "-lock"] { try? FileManager.default.removeItem(atPath: path + suffix) }
  }

  /// A batch as a store makes it, and wilder: rows of all sizes come, change size and go.
  func batch(_ random: inout Random, _ main: inout Int64) -> WriteBatch {
    var batch = WriteBatch()
    let sizes = [0, 10, 500, 1000, 2030, 2040, 4075, 4076, 4077, 4080, 9000, 70_000]
    for _ in 0..<1 + random.next(below: 60) {
      if random.chance(1, in: 2) {
        main += 1
        let key = RevisionKey.bytes(Revision(main: main, sub: 0))
        let value = [UInt8](repeating: 1, count: sizes[random.next(below: sizes.count)])
        batch.put(.key, key.rawSpan, value.rawSpan)
      } else if main > 0, random.chance(1, in: 3) {
        let old = Revision(main: 1 + Int64(random.next(below: Int(main))), sub: 0)
        batch.remove(.key, RevisionKey.bytes(old).rawSpan)
      } else {
        let bucket = Bucket.allCases[1 + random.next(below: Bucket.allCases.count - 1)]
        let name = random.next(below: 120)
        let key = [UInt8](repeating: UInt8(97 + name % 7), count: 1 + (name * 37) % 500)
        let value = [UInt8](repeating: 2, count: sizes[random.next(below: sizes.count)])
        if random.chance(2, in: 5) {
          batch.remove(bucket, key.rawSpan)
        } else {
          batch.put(bucket, key.rawSpan, value.rawSpan)
        }
      }
    }
    return batch
  }

  @Test(arguments: 1...4)
  func `a store that was written at random is whole after each commit`(seed: Int) throws {
    defer { remove() }
    var random = Random(seed: UInt64(seed))
    var main: Int64 = 0
    let starts = ProcessInfo.processInfo.environment["CHURN"].flatMap { Int($0) } ?? 2
    for start in 0..<starts {
      let backend = try LMDBBackend.open(path: path, syncs: false)
      let reader = try backend.makeReader()
      for round in 0..<20 {
        try backend.commit(batch(&random, &main))
        // A held snapshot keeps pages from being used again; letting it go frees many at once.
        if random.chance(1, in: 8) { try reader.renew() }
        if random.chance(1, in: 8) { reader.reset() }
        if random.chance(1, in: 30) { try backend.defragment() }
        let check = try PageCheck.run(path: path)
        #expect(check.rows == UInt64(try count(backend)), "start \(start), round \(round)")
      }
    }
  }

  @Test(arguments: 1...6)
  func `a defragmentation beside commits keeps every row as it is at the end`(seed: Int) throws {
    defer { remove() }
    var random = Random(seed: UInt64(seed))
    var main: Int64 = 0
    let backend = try LMDBBackend.open(path: path, syncs: false)
    let reader = try backend.makeReader()
    for round in 0..<4 {
      for _ in 0..<10 { try backend.commit(batch(&random, &main)) }
      let copy = try backend.beginDefragmentation()
      var isOver = false
      while !isOver {
        if random.chance(1, in: 8) { try backend.commit(batch(&random, &main)) }
        isOver = try copy.step(bytesMax: 1 << (8 + random.next(below: 10))) == nil
      }
      try backend.commit(batch(&random, &main))
      let before = try rows(reader)
      if random.chance(1, in: 4) {
        backend.abandon(copy)
      } else {
        var old = try backend.finish(copy)
        let wasUnused = old.isUnused()
        reader.reset()
        let isUnused = old.isUnused()
        #expect(!wasUnused && isUnused)
      }
      #expect(try rows(reader) == before, "round \(round)")
      let check = try PageCheck.run(path: path)
      #expect(check.rows == UInt64(before.count))
      #expect(!FileManager.default.fileExists(atPath: path + ".defrag\(round + 1)"))
    }
  }

  func rows(_ reader: LMDBBackend.Reader) throws -> [String] {
    try reader.renew()
    defer { reader.reset() }
    var rows: [String] = []
    for bucket in Bucket.allCases {
      try reader.scan(bucket, from: RawSpan(), to: RawSpan()) { key, value in
        rows.append("\(bucket) \(key.copied()) \(value.byteCount) \(crc32c(value))")
        return true
      }
    }
    return rows
  }

  func count(_ backend: LMDBBackend) throws -> Int {
    let reader = try backend.makeReader()
    try reader.renew()
    var count = 0
    for bucket in Bucket.allCases {
      try reader.scan(bucket, from: RawSpan(), to: RawSpan()) { _, _ in
        count += 1
        return true
      }
    }
    return count
  }

  @Test func `a commit that the file has no room for changes nothing, and others go on`() throws {
    defer { remove() }
    let limit = 1 << 20
    let backend = try LMDBBackend.open(path: path, syncs: false, mapBytes: limit)
    func rows(_ range: ClosedRange<Int64>) -> WriteBatch {
      var batch = WriteBatch()
      for main in range {
        let key = RevisionKey.bytes(Revision(main: main, sub: 0))
        batch.put(.key, key.rawSpan, [UInt8](repeating: 1, count: 1000).rawSpan)
      }
      return batch
    }
    try backend.commit(rows(1...400))
    #expect(throws: BackendError.full("\(path): the store has grown to its limit")) {
      try backend.commit(rows(401...1400))
    }
    #expect(try count(backend) == 400)
    try backend.commit(rows(401...410))
    var removal = WriteBatch()
    for main in 1...350 as ClosedRange<Int64> {
      removal.remove(.key, RevisionKey.bytes(Revision(main: main, sub: 0)).rawSpan)
    }
    try backend.commit(removal)
    try backend.commit(rows(411...412))
    try backend.commit(rows(413...700))
    #expect(try count(backend) == 350)
    #expect(try PageCheck.run(path: path).rows == 350)
    let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int
    #expect(size! <= limit)
  }
}
