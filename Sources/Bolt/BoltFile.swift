internal import Basics

/// Where a bbolt file's bytes come from.
public struct BoltSource {
  public let size: Int
  private let read: (_ offset: Int, _ count: Int, _ bytes: inout [UInt8]) throws(BoltError) -> Void

  /// `read` appends exactly `count` bytes, which lie inside `size`, or throws.
  public init(
    size: Int,
    read:
      @escaping (_ offset: Int, _ count: Int, _ bytes: inout [UInt8]) throws(BoltError) -> Void
  ) {
    self.size = size
    self.read = read
  }

  func append(_ offset: Int, _ count: Int, to bytes: inout [UInt8]) throws(BoltError) {
    let before = bytes.count
    try read(offset, count, &bytes)
    precondition(bytes.count == before + count, "a source gives what it is asked for")
  }
}

/// A bbolt file, read without trust: each page is checked before it is used, a page that is met
/// twice is refused, and no more is held than the pages from a root to a leaf.
///
/// bbolt: db.go, page.go, bucket.go.
public struct BoltFile: ~Copyable {
  let source: BoltSource
  let meta: Meta
  var seen: PageSet
  /// The pages between the root and where a walk is; kept to be used again.
  var levels: [Node] = []

  /// Reads the two meta pages: the newest whole one counts. What follows the last page, such as a
  /// snapshot's checksum, is ignored.
  public static func open(_ source: BoltSource) throws(BoltError) -> BoltFile {
    guard source.size >= 2 * 1024 else { throw BoltError(page: nil, "file size too small") }
    guard source.size <= BoltLimits.fileBytesMax else {
      throw BoltError(page: nil, "the file is larger than \(BoltLimits.fileBytesMax) bytes")
    }
    let meta = try Self.newest(source)
    guard meta.pageCount >= 3, meta.pageCount <= UInt64(source.size / meta.pageSize) else {
      throw BoltError(
        page: nil,
        "the file is cut short: it has \(source.size) bytes, its meta page counts "
          + "\(meta.pageCount) pages of \(meta.pageSize)")
    }
    guard meta.root > 1, meta.root < meta.pageCount else {
      throw BoltError(page: meta.root, "the root lies outside of the file")
    }
    guard
      meta.freelist == Format.noFreelist || meta.freelist > 1 && meta.freelist < meta.pageCount
    else { throw BoltError(page: meta.freelist, "the freelist lies outside of the file") }
    return BoltFile(source, meta)
  }

  private init(_ source: BoltSource, _ meta: Meta) {
    self.source = source
    self.meta = meta
    seen = PageSet(count: Int(meta.pageCount))
  }

  public var pageSize: Int { meta.pageSize }
  /// Bytes from the start to the end of the last page in use. bbolt: `Tx.Size`.
  public var bytes: Int { Int(meta.pageCount) * meta.pageSize }

  private static func newest(_ source: BoltSource) throws(BoltError) -> Meta {
    var refusal: BoltError?
    var found: [Meta] = []
    do throws(BoltError) {
      found.append(try readMeta(source, 0, page: 0))
    } catch {
      refusal = error
    }
    // The second lies one page on; without the first, the size of a page is found by trying.
    var size = found.first?.pageSize ?? 1024
    while size <= found.first?.pageSize ?? 65_536 {
      if let meta = try? readMeta(source, size, page: 1), meta.pageSize == size {
        found.append(meta)
        break
      }
      size *= 2
    }
    guard let newest = found.max(by: { $0.transaction < $1.transaction }) else {
      throw BoltError(page: nil, refusal?.reason ?? "invalid database")
    }
    return newest
  }

  private static func readMeta(
    _ source: BoltSource, _ offset: Int, page: UInt64
  ) throws(BoltError) -> Meta {
    let count = Format.headerBytes + Format.metaBytes
    guard offset + count <= source.size else {
      throw BoltError(page: page, "file size too small")
    }
    var bytes: [UInt8] = []
    try source.append(offset, count, to: &bytes)
    return try Meta(bytes.rawSpan, page: page)
  }
}

/// Which pages were met.
struct PageSet {
  private var words: [UInt64]
  let count: Int

  init(count: Int) {
    self.count = count
    words = [UInt64](repeating: 0, count: (count + 63) / 64)
  }

  mutating func removeAll() { for at in words.indices { words[at] = 0 } }

  /// False when `page` was in it already.
  mutating func insert(_ page: Int) -> Bool {
    let bit = UInt64(1) << UInt64(page & 63)
    guard words[page >> 6] & bit == 0 else { return false }
    words[page >> 6] |= bit
    return true
  }

  /// The first page at or after `page` that is not in it.
  func firstMissing(from page: Int) -> Int? {
    var at = page
    while at < count {
      if at & 63 == 0, words[at >> 6] == .max {
        at += 64
      } else if words[at >> 6] & UInt64(1) << UInt64(at & 63) != 0 {
        at += 1
      } else {
        return at
      }
    }
    return nil
  }
}
