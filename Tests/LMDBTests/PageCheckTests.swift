import Basics
import Foundation
import LMDB
import MVCC
import Testing

@Suite struct PageCheckTests {
  /// Every so many bits one is flipped; 1 flips them all (environment: FLIP_STRIDE).
  let stride = ProcessInfo.processInfo.environment["FLIP_STRIDE"].flatMap { Int($0) } ?? 197

  func damage(_ path: String) -> PageDamage? {
    do {
      _ = try PageCheck.run(path: path)
      return nil
    } catch {
      guard case .damaged(let damage) = error else { return nil }
      return damage
    }
  }

  /// Opens the store as a start does and reads all of it: nil when that was refused with the
  /// file's path, or gave the rows that were written; else what happened instead.
  func complaint(_ specimen: Specimen) -> String? {
    do {
      return try specimen.read() == specimen.rows ? nil : "other rows"
    } catch {
      guard case .corrupt(let text)? = error as? BackendError else { return "\(error)" }
      return text.contains(specimen.path) && text.contains("offset") ? nil : text
    }
  }

  /// What became of one flipped bit, or nil when its place was told or it did no harm.
  func complaint(_ specimen: Specimen, at offset: Int, bit: Int) throws -> String? {
    let page = UInt64(offset / Specimen.pageBytes)
    let changed = [specimen.bytes[offset] ^ UInt8(1 << bit)]
    return try specimen.with(changed, at: offset) {
      let found: String?
      if let damage = damage(specimen.path) {
        // A wrong count shows that a page is not what it was, but not which one.
        if damage.what.hasPrefix("a tree is recorded with") { return nil }
        let places = [damage.place] + damage.others + damage.via
        found = places.contains { $0.page == page } ? nil : damage.text
      } else {
        found = complaint(specimen)
      }
      return found.map { "page \(page), byte \(offset % Specimen.pageBytes), bit \(bit): \($0)" }
    }
  }

  @Test func `the specimen has all that LMDB has`() throws {
    let specimen = try Specimen()
    let check = try PageCheck.run(path: specimen.path)
    #expect(check.rows == UInt64(specimen.rows.count))
    #expect(check.freePages > 10)
    #expect(check.treePages + check.freePages + 2 == check.pageCount)
    let kinds = Set(
      (2..<specimen.bytes.count / Specimen.pageBytes).map {
        specimen.bytes[$0 * Specimen.pageBytes + 10]
      })
    #expect(kinds.isSuperset(of: [1, 2, 4]))
  }

  @Test func `a flipped bit is refused with its page, or changes no row`() throws {
    let specimen = try Specimen()
    var number = 0
    var complaints: [String] = []
    for page in 0..<specimen.bytes.count / Specimen.pageBytes {
      for offset in specimen.structure(ofPage: page) {
        for bit in 0..<8 {
          number += 1
          guard number % stride == 0 else { continue }
          if let found = try complaint(specimen, at: offset, bit: bit) { complaints.append(found) }
        }
      }
    }
    #expect(number > 100_000)
    #expect(complaints.isEmpty)
  }

  @Test func `garbage anywhere is refused, or changes no row`() throws {
    let specimen = try Specimen()
    var random = Random(seed: 7)
    for _ in 0..<300 {
      let count = 1 + random.next(below: random.chance(1, in: 2) ? 16 : 3 * Specimen.pageBytes)
      let offset = random.next(below: specimen.bytes.count - count)
      let kind = random.next(below: 3)
      // Other pages of the file are the best disguise.
      let source = random.next(below: specimen.bytes.count - count)
      let changed: [UInt8] =
        switch kind {
        case 0: (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        case 1: [UInt8](repeating: random.chance(1, in: 2) ? 0 : 255, count: count)
        default: Array(specimen.bytes[source..<source + count])
        }
      let found = try specimen.with(changed, at: offset) { complaint(specimen) }
      #expect(found == nil, "\(count) bytes of kind \(kind) at \(offset), from \(source)")
    }
  }

  @Test func `a file cut anywhere is refused, or loses nothing`() throws {
    let specimen = try Specimen()
    let pages = specimen.bytes.count / Specimen.pageBytes
    let sizes = (0...pages).flatMap { page in
      [page * Specimen.pageBytes - 1, page * Specimen.pageBytes, page * Specimen.pageBytes + 100]
    }
    var refused = 0
    for size in sizes where size > 0 && size < specimen.bytes.count {
      try specimen.cut(to: size) {
        if damage(specimen.path) != nil { refused += 1 }
        #expect(complaint(specimen) == nil, "cut to \(size)")
      }
    }
    #expect(refused > pages)
  }

  @Test func `a file without bytes is a new one, and what is no file is refused`() throws {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("martlet-empty-\(UUID().uuidString)").path
    defer { for end in ["", "-lock"] { try? FileManager.default.removeItem(atPath: path + end) } }
    #expect(try PageCheck.run(path: path).pageCount == 0)
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(try PageCheck.run(path: path).pageCount == 0)
    _ = try LMDBBackend.open(path: path, syncs: false)
    #expect(try PageCheck.run(path: path).pageCount > 2)
    try FileManager.default.removeItem(atPath: path)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    #expect(throws: PageCheckError.unreadable("\(path): is not a file")) {
      try PageCheck.run(path: path)
    }
  }

  @Test func `a page that two places name is told with both`() throws {
    let specimen = try Specimen()
    // The first branch of the file's newest trees that names two leaves: make it name one twice.
    let pages = 2..<specimen.bytes.count / Specimen.pageBytes
    var tried = 0
    for page in pages where specimen.bytes[page * Specimen.pageBytes + 10] == 1 {
      let start = page * Specimen.pageBytes
      func node(_ index: Int) -> Int {
        start + Int(specimen.bytes[start + 16 + 2 * index])
          + Int(specimen.bytes[start + 17 + 2 * index]) << 8
      }
      let child = Array(specimen.bytes[node(0)..<node(0) + 4])
      try specimen.with(child, at: node(1)) {
        guard let damage = damage(specimen.path) else { return }
        tried += 1
        #expect(damage.place.page == UInt64(page) && damage.place.offset == UInt64(node(1)))
        #expect(damage.others.contains { $0.offset == UInt64(node(0)) })
      }
    }
    #expect(tried > 0)
  }
}
