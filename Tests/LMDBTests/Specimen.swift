import Basics
import Foundation
import LMDB
import MVCC
import Testing

/// A small store with what LMDB has: trees of one to three levels, overflow pages, deleted rows,
/// a list of free pages. Removed with the object.
final class Specimen {
  static let pageBytes = 4096

  let path = FileManager.default.temporaryDirectory
    .appendingPathComponent("martlet-pages-\(UUID().uuidString)").path
  private(set) var bytes: [UInt8] = []
  private(set) var rows: [String] = []

  init() throws {
    do {
      let backend = try LMDBBackend.open(path: path, syncs: false)
      try backend.commit(keys(1...40))
      try backend.commit(users())
      var last = WriteBatch()
      for main in [3, 4, 5, 11, 29] as [Int64] {
        last.remove(.key, RevisionKey.bytes(Revision(main: main, sub: 0)).rawSpan)
      }
      for number in 20..<30 { last.remove(.authUsers, userKey(number).rawSpan) }
      for (name, bucket) in [("consistent_index", Bucket.meta), ("1", .lease), ("2", .lease)] {
        last.put(bucket, Array(name.utf8).rawSpan, Array("a value".utf8).rawSpan)
      }
      try backend.commit(last)
      try backend.commit(keys(41...44))
    }
    bytes = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    rows = try read()
  }

  deinit {
    for suffix in ["", "-lock"] { try? FileManager.default.removeItem(atPath: path + suffix) }
  }

  private func keys(_ revisions: ClosedRange<Int64>) -> WriteBatch {
    var batch = WriteBatch()
    for main in revisions {
      let size = main % 10 == 9 ? 5000 : Int(300 + main)
      let key = RevisionKey.bytes(Revision(main: main, sub: 0))
      let value = [UInt8](repeating: UInt8(main), count: size)
      batch.put(.key, key.rawSpan, value.rawSpan)
    }
    return batch
  }

  /// Keys so long that few fit a branch page.
  private func userKey(_ number: Int) -> [UInt8] {
    [UInt8](repeating: 117, count: 480) + [UInt8(number / 10), UInt8(number % 10)]
  }

  private func users() -> WriteBatch {
    var batch = WriteBatch()
    for number in 0..<80 {
      let value = [UInt8](repeating: UInt8(number), count: number == 50 ? 3000 : 30)
      let key = userKey(number)
      batch.put(.authUsers, key.rawSpan, value.rawSpan)
    }
    return batch
  }

  /// All rows of all buckets, through LMDB.
  func read() throws -> [String] {
    let backend = try LMDBBackend.open(path: path, syncs: false)
    let reader = try backend.makeReader()
    try reader.renew()
    var found: [String] = []
    for bucket in Bucket.allCases {
      try reader.scan(bucket, from: RawSpan(), to: RawSpan()) { key, value in
        let sum = crc32c(value)
        found.append("\(bucket) \(key.byteCount) \(crc32c(key)) \(value.byteCount) \(sum)")
        return true
      }
    }
    return found
  }

  /// Puts `changed` at `offset` of the file for the time of `body`.
  func with<R>(_ changed: [UInt8], at offset: Int, _ body: () throws -> R) throws -> R {
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    defer { try? file.close() }
    func write(_ bytes: [UInt8]) throws {
      try file.seek(toOffset: UInt64(offset))
      try file.write(contentsOf: Data(bytes))
    }
    try write(changed)
    defer { try? write(Array(bytes[offset..<offset + changed.count])) }
    return try body()
  }

  /// Makes the file end after `count` bytes for the time of `body`.
  func cut(to count: Int, _ body: () throws -> Void) throws {
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    try file.truncate(atOffset: UInt64(count))
    defer {
      try? file.seek(toOffset: UInt64(count))
      try? file.write(contentsOf: Data(bytes[count...]))
      try? file.close()
    }
    try body()
  }

  private func number(_ at: Int) -> Int { Int(bytes[at]) | Int(bytes[at + 1]) << 8 }

  /// The offsets, in the file, of what LMDB trusts: page headers, pointers and headers of entries,
  /// records of trees, keys, lists of free pages.
  func structure(ofPage page: Int) -> [Int] {
    let start = page * Self.pageBytes
    if page < 2 { return Array(start..<start + 152) }
    let flags = number(start + 10)
    var found = Array(start..<start + 16)
    guard flags == 1 || flags == 2, number(start) == page else { return found }
    let count = (number(start + 12) - 16) / 2
    found += start + 16..<start + 16 + 2 * count
    for index in 0..<count {
      let node = start + number(start + 16 + 2 * index)
      let keyBytes = number(node + 6)
      // Of a long key the end, which tells it from its neighbours.
      found += node..<node + 8
      found += node + 8 + max(0, keyBytes - 20)..<node + 8 + keyBytes
      let value = flags == 2 ? min(number(node), 48) : 0
      found += node + 8 + keyBytes..<node + 8 + keyBytes + value
    }
    return found.filter { $0 < start + Self.pageBytes }
  }
}
