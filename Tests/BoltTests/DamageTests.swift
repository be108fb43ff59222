import Basics
import Testing

@testable import Bolt

/// Files that are not what they say. None may end the process, whatever the bytes.
@Suite struct DamageTests {
  static func sample(_ rows: Int) throws -> [UInt8] {
    var random = Random(seed: 11)
    return try write(
      [
        Contents("a", randomRows(3, largest: 10, &random)),
        Contents("key", randomRows(rows, largest: 6000, &random)),
      ], pageSize: 1024)
  }

  static func failure(_ bytes: [UInt8]) -> BoltError? {
    do throws(BoltError) {
      _ = try read(bytes)
      return nil
    } catch {
      return error
    }
  }

  static func patch(_ bytes: inout [UInt8], _ offset: Int, _ value: UInt64, bytes count: Int) {
    for at in 0..<count { bytes[offset + at] = UInt8(truncatingIfNeeded: value >> (8 * at)) }
  }

  /// The pages of the file that start with these flags.
  static func pages(_ bytes: [UInt8], flags: UInt16) throws -> [Int] {
    var found: [Int] = []
    var at = 2
    while at < bytes.count / 1024 {
      if bytes.rawSpan.number16(at * 1024 + 8) == flags { found.append(at) }
      at += 1 + Int(bytes.rawSpan.number32(at * 1024 + 12))
    }
    return found
  }

  @Test func `one bad meta page is made good by the other`() throws {
    let whole = try Self.sample(50)
    for page in 0..<2 {
      var bytes = whole
      bytes[page * 1024 + 16 + 50] ^= 1
      #expect(try read(bytes) == read(whole))
    }
  }

  @Test func `two bad meta pages are refused in bbolt's words`() throws {
    let whole = try Self.sample(50)
    let words = [(16, "invalid database"), (20, "version mismatch"), (40, "checksum error")]
    for (offset, text) in words {
      var bytes = whole
      bytes[offset] ^= 1
      bytes[1024 + offset] ^= 1
      #expect(Self.failure(bytes)?.reason == text)
    }
    #expect(Self.failure([])?.reason == "file size too small")
    #expect(Self.failure([UInt8](repeating: 65, count: 9000))?.reason == "invalid database")
  }

  @Test func `a file that is cut short is refused`() throws {
    let whole = try Self.sample(200)
    for pages in stride(from: 2, to: whole.count / 1024, by: 11) {
      #expect(Self.failure(Array(whole[..<(pages * 1024 + 3)])) != nil)
    }
    // What follows the last page, as a snapshot's checksum, does not matter.
    #expect(Self.failure(whole + [UInt8](repeating: 1, count: 32)) == nil)
  }

  @Test func `a page that points back at its parent is met once`() throws {
    let whole = try Self.sample(400)
    let branches = try Self.pages(whole, flags: 1)
    for page in branches {
      for target in branches {
        var bytes = whole
        Self.patch(&bytes, page * 1024 + 16 + 8, UInt64(target), bytes: 8)
        #expect(bytes == whole || Self.failure(bytes) != nil)
      }
    }
  }

  @Test func `an overflow beyond the file names its page`() throws {
    var bytes = try Self.sample(100)
    let page = try Self.pages(bytes, flags: 2)[1]
    Self.patch(&bytes, page * 1024 + 12, 0xffff_ffff, bytes: 4)
    #expect(Self.failure(bytes)?.page == UInt64(page))
  }

  @Test func `elements outside of their page are refused with its number`() throws {
    let whole = try Self.sample(100)
    let page = try Self.pages(whole, flags: 2)[0]
    for field in [4, 8, 12] {
      for value: UInt64 in [0xffff_ffff, 5000] {
        var bytes = whole
        Self.patch(&bytes, page * 1024 + 16 + field, value, bytes: 4)
        #expect(Self.failure(bytes)?.page == UInt64(page))
      }
    }
    var bytes = whole
    Self.patch(&bytes, page * 1024 + 10, 0xffff, bytes: 2)
    #expect(Self.failure(bytes)?.page == UInt64(page))
  }

  @Test func `a page that no tree reaches and nobody freed is told`() throws {
    var bytes = try Self.sample(100)
    bytes += [UInt8](repeating: 0, count: 1024)
    let count = UInt64(bytes.count / 1024)
    for page in 0..<2 {
      Self.patch(&bytes, page * 1024 + 16 + 40, count, bytes: 8)
      let sum = fnv64a(bytes.rawSpan.extracting(page * 1024 + 16..<page * 1024 + 72))
      Self.patch(&bytes, page * 1024 + 72, sum, bytes: 8)
    }
    #expect(Self.failure(bytes) == BoltError(page: count - 1, "unreachable unfreed"))
    // Freed it is fine; twice it is not.
    Self.patch(&bytes, 2 * 1024 + 10, 1, bytes: 2)
    Self.patch(&bytes, 2 * 1024 + 16, count - 1, bytes: 8)
    #expect(Self.failure(bytes) == nil)
    // The long form of a freelist, as from 65,535 pages on.
    Self.patch(&bytes, 2 * 1024 + 10, 0xffff, bytes: 2)
    Self.patch(&bytes, 2 * 1024 + 16, 1, bytes: 8)
    Self.patch(&bytes, 2 * 1024 + 24, count - 1, bytes: 8)
    #expect(Self.failure(bytes) == nil)
    Self.patch(&bytes, 2 * 1024 + 16, 1 << 60, bytes: 8)
    #expect(Self.failure(bytes)?.page == 2)
  }

  @Test func `flipped bits are refused or harmless, never more`() throws {
    let whole = try Self.sample(100)
    var random = Random(seed: 5)
    var refused = 0
    for _ in 0..<250 {
      var bytes = whole
      for _ in 0...random.next(below: 3) {
        let page = random.next(below: bytes.count / 1024)
        bytes[page * 1024 + random.next(below: 120)] ^= UInt8(1 << random.next(below: 8))
      }
      if Self.failure(bytes) != nil { refused += 1 }
    }
    #expect(refused > 50)
  }
}
