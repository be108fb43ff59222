import Basics
import Foundation
import LMDB
import MVCC
import Testing

@Suite struct LMDBBackendTests {
  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("martlet-lmdb-\(UUID().uuidString)").path

  func batch(_ rows: ClosedRange<Int64>, value: [UInt8]) -> WriteBatch {
    var batch = WriteBatch()
    for main in rows {
      let key = RevisionKey.bytes(Revision(main: main, sub: 0))
      batch.put(.key, key.rawSpan, value.rawSpan)
    }
    return batch
  }

  func rows(_ backend: LMDBBackend) throws -> [Int64] {
    let reader = try backend.makeReader()
    try reader.renew()
    var found: [Int64] = []
    try reader.scan(.key, from: RawSpan(), to: RawSpan()) { key, _ in
      found.append(RevisionKey.read(key)!.revision.main)
      return true
    }
    return found
  }

  func remove() {
    for suffix in ["", "-lock"] { try? FileManager.default.removeItem(atPath: path + suffix) }
  }

  @Test func `rows are there after the file was opened anew`() throws {
    defer { remove() }
    do {
      let backend = try LMDBBackend.open(path: path, syncs: true)
      try backend.commit(batch(1...100, value: [7]))
      try backend.commit(batch(50...50, value: [8]))
    }
    let backend = try LMDBBackend.open(path: path, syncs: true)
    #expect(try rows(backend) == Array(1...100))
    let reader = try backend.makeReader()
    try reader.renew()
    var value: [UInt8] = []
    let key = RevisionKey.bytes(Revision(main: 50, sub: 0))
    let found = try reader.get(.key, key.rawSpan, into: &value)
    #expect(found && value == [8])
  }

  @Test func `a file that is opened for reading is read and left as it is`() throws {
    defer { remove() }
    do {
      let backend = try LMDBBackend.open(path: path, syncs: true)
      try backend.commit(batch(1...100, value: [7]))
    }
    try FileManager.default.removeItem(atPath: path + "-lock")
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    let backend = try LMDBBackend.openForReading(path: path)
    #expect(try rows(backend) == Array(1...100))
    #expect(throws: BackendError.self) { try backend.commit(batch(101...101, value: [7])) }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    #expect(!FileManager.default.fileExists(atPath: path + "-lock"))
  }

  @Test func `defragmentation gives space back beside a reader that holds a snapshot`() throws {
    defer { remove() }
    let backend = try LMDBBackend.open(path: path, syncs: true)
    let large = [UInt8](repeating: 1, count: 3000)
    try backend.commit(batch(1...2000, value: large))
    let old = try backend.makeReader()
    try old.renew()
    var removal = WriteBatch()
    for main in 1...1990 as ClosedRange<Int64> {
      let key = RevisionKey.bytes(Revision(main: main, sub: 0))
      removal.remove(.key, key.rawSpan)
    }
    try backend.commit(removal)
    let before = backend.sizes().total
    try backend.defragment()
    #expect(backend.sizes().total < before / 10)
    #expect(try rows(backend) == Array(1991...2000))
    try backend.commit(batch(2001...2001, value: [1]))
    #expect(try rows(backend) == Array(1991...2001))
    var count = 0
    try old.scan(.key, from: RawSpan(), to: RawSpan()) { _, _ in
      count += 1
      return true
    }
    #expect(count == 2000)
  }

  @Test func `a flipped bit in a value is found and its place told`() throws {
    defer { remove() }
    do {
      let backend = try LMDBBackend.open(path: path, syncs: true)
      try backend.commit(batch(1...10, value: Array("a value to be found".utf8)))
    }
    let url = URL(fileURLWithPath: path)
    var bytes = try Data(contentsOf: url)
    let at = try #require(bytes.range(of: Data("a value".utf8))).lowerBound
    bytes[at + 2] ^= 4
    try bytes.write(to: url)
    let backend = try LMDBBackend.open(path: path, syncs: true)
    let error = #expect(throws: BackendError.self) { try rows(backend) }
    guard case .corrupt(let text) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(text.contains(path) && text.contains("offset \(at)"))
  }
}
