internal import Basics
internal import MVCC

/// Checks LMDB's own structure in a data file, which LMDB trusts blindly: a changed bit in it can
/// crash or hang a process, or hide rows.
///
/// One pass over the newest snapshot, by `pread`, before LMDB opens the file: both meta pages,
/// every page of every tree, the list of free pages. Memory: a bit for each page of the file and
/// a few pages. What a page holds is checked against what points to it and against the counts
/// that the tree keeps of itself, so that one changed bit either shows or changes nothing that is
/// read. Checksums of rows are checked here for all buckets but `key`, whose rows are read one by
/// one right after, when the store is opened. Format: lmdb 0.9, mdb.c, data version 1, 64 bits.
public struct PageCheck: Sendable {
  /// Pages of the file up to the last one used.
  public private(set) var pageCount: UInt64 = 0
  /// Of them those in a tree, and those listed as free.
  public private(set) var treePages: UInt64 = 0
  public private(set) var freePages: UInt64 = 0
  public private(set) var rows: UInt64 = 0

  /// Checks the file at `path` and changes nothing. No file, or an empty one, is fine.
  public static func run(path: String) throws(PageCheckError) -> PageCheck {
    try run(path: path) { _, _ in }
  }

  /// As above; `progress` is called now and then with how many of the file's pages are known.
  public static func run(
    path: String, progress: @escaping (_ known: UInt64, _ all: UInt64) -> Void
  ) throws(PageCheckError) -> PageCheck {
    do {
      return try walk(path, seeking: nil, progress)
    } catch {
      guard case .damaged(var damage) = error, let shared = damage.shared else { throw error }
      // Who claimed the page first is not kept for every page: a second walk finds it.
      do {
        _ = try walk(path, seeking: shared) { _, _ in }
      } catch {
        if case .damaged(let first) = error { damage.others = [first.place] + first.via }
      }
      throw .damaged(damage)
    }
  }

  private static func walk(
    _ path: String, seeking page: UInt64?, _ progress: @escaping (UInt64, UInt64) -> Void
  ) throws(PageCheckError) -> PageCheck {
    guard var file = try PageFile.open(path: path), file.byteCount > 0 else { return PageCheck() }
    let meta = try MetaPage.newest(&file)
    var walk = PageWalk(file: file, meta: meta, seeking: page, progress: progress)
    try walk.walkAll()
    var result = PageCheck()
    result.pageCount = meta.lastPage + 1
    result.treePages = walk.treePages
    result.freePages = walk.freePages
    result.rows = walk.rows
    return result
  }
}

/// A tree as its record describes it (lmdb: `MDB_db`).
struct TreeRecord {
  static let byteCount = 48
  /// The root of a tree without rows.
  static let empty = UInt64.max

  /// Where the record lies.
  let place: PagePlace
  /// lmdb: for the tree of free pages, the page size.
  let pad: UInt32
  let flags: Int
  let depth: Int
  let branchPages: UInt64
  let leafPages: UInt64
  let overflowPages: UInt64
  let entries: UInt64
  let root: UInt64

  init(_ bytes: RawSpan, at place: PagePlace) {
    self.place = place
    pad = bytes.u32(0)
    flags = bytes.u16(4)
    depth = bytes.u16(6)
    branchPages = bytes.u64(8)
    leafPages = bytes.u64(16)
    overflowPages = bytes.u64(24)
    entries = bytes.u64(32)
    root = bytes.u64(40)
  }

  var isEmpty: Bool { root == Self.empty }
  var rootPlace: PagePlace { PagePlace(page: place.page, offset: place.offset + 40) }
}

/// One of the two pages that a file begins with; the newer one is where a reader starts.
struct MetaPage {
  let number: UInt64
  let pageBytes: Int
  let mapBytes: UInt64
  let free: TreeRecord
  let main: TreeRecord
  let lastPage: UInt64
  let transaction: UInt64

  /// Where the fields lie in the page.
  enum Field {
    static let number = 0
    static let flags = 10
    static let magic = 16
    static let version = 20
    static let mapBytes = 32
    static let free = 40
    static let main = 88
    static let lastPage = 136
    static let transaction = 144
    static let end = 152
  }

  private enum Expected {
    static let flags = 0x08
    static let magic: UInt32 = 0xbeef_c0de
    static let version: UInt32 = 1
    static let pageBytes = 512...32768
    /// MDB_INTEGERKEY, with and without MDB_NOSUBDIR.
    static let freeFlags = [0x08, 0x4008]
  }

  private static func damage(
    _ file: borrowing PageFile, _ page: UInt64, _ offset: UInt64, _ what: String
  ) -> PageCheckError {
    .damaged(
      PageDamage(path: file.path, place: PagePlace(page: page, offset: offset), what: what))
  }

  /// Reads and checks both.
  static func newest(_ file: inout PageFile) throws(PageCheckError) -> MetaPage {
    let first = try read(&file, 0, at: 0)
    let second = try read(&file, 1, at: UInt64(first.pageBytes))
    guard second.pageBytes == first.pageBytes else {
      throw damage(
        file, 1, second.offset(Field.free),
        "the meta pages name different page sizes, \(first.pageBytes) and \(second.pageBytes)")
    }
    let newer = first.transaction < second.transaction ? second : first
    let older = first.transaction < second.transaction ? first : second
    // Transactions write the two in turn; a new file has two of number 0.
    let isNew = first.transaction == 0 && second.transaction == 0
    guard isNew || newer.transaction - older.transaction == 1,
      isNew || newer.transaction & 1 == newer.number
    else {
      var error = PageDamage(
        path: file.path, place: PagePlace(page: 0, offset: first.offset(Field.transaction)),
        what: "the meta pages hold the transactions \(first.transaction) and "
          + "\(second.transaction), which do not follow each other")
      error.others = [PagePlace(page: 1, offset: second.offset(Field.transaction))]
      throw .damaged(error)
    }
    guard newer.lastPage >= older.lastPage else {
      var error = PageDamage(
        path: file.path,
        place: PagePlace(page: newer.number, offset: newer.offset(Field.lastPage)),
        what: "the last page went back from \(older.lastPage) to \(newer.lastPage)")
      error.others = [PagePlace(page: older.number, offset: older.offset(Field.lastPage))]
      throw .damaged(error)
    }
    try newer.check(file)
    return newer
  }

  private static func read(
    _ file: inout PageFile, _ number: UInt64, at offset: UInt64
  ) throws(PageCheckError) -> MetaPage {
    var bytes: [UInt8] = []
    guard try file.read(at: offset, count: Field.end, into: &bytes) else {
      throw damage(file, number, offset, "the file ends before its second meta page does")
    }
    let page = bytes.rawSpan
    guard page.u32(Field.magic) == Expected.magic else {
      throw damage(
        file, number, offset + UInt64(Field.magic), "the meta page lacks LMDB's mark")
    }
    guard page.u32(Field.version) == Expected.version else {
      throw damage(
        file, number, offset + UInt64(Field.version),
        "the meta page is of version \(page.u32(Field.version)), not \(Expected.version)")
    }
    guard page.u64(Field.number) == number, page.u16(Field.flags) == Expected.flags else {
      throw damage(file, number, offset, "the header is not that of meta page \(number)")
    }
    let meta = MetaPage(page, number, at: offset)
    let size = meta.pageBytes
    guard Expected.pageBytes.contains(size), size & (size - 1) == 0 else {
      throw damage(
        file, number, offset + UInt64(Field.free), "the meta page names a page size of \(size)")
    }
    return meta
  }

  private init(_ page: RawSpan, _ number: UInt64, at offset: UInt64) {
    func place(_ field: Int) -> PagePlace {
      PagePlace(page: number, offset: offset + UInt64(field))
    }
    self.number = number
    mapBytes = page.u64(Field.mapBytes)
    free = TreeRecord(page.extracting(Field.free..<Field.main), at: place(Field.free))
    main = TreeRecord(page.extracting(Field.main..<Field.lastPage), at: place(Field.main))
    pageBytes = Int(free.pad)
    lastPage = page.u64(Field.lastPage)
    transaction = page.u64(Field.transaction)
  }

  /// The offset of a field in the file.
  func offset(_ field: Int) -> UInt64 { number * UInt64(pageBytes) + UInt64(field) }

  /// What only the newer one is used for.
  private func check(_ file: borrowing PageFile) throws(PageCheckError) {
    let pagesMax = UInt64(Environment.mapBytes) / UInt64(pageBytes)
    guard lastPage >= 1, lastPage < pagesMax else {
      throw Self.damage(
        file, number, offset(Field.lastPage), "the meta page names \(lastPage) as the last page")
    }
    guard mapBytes / UInt64(pageBytes) > lastPage else {
      throw Self.damage(
        file, number, offset(Field.mapBytes),
        "the meta page names a map of \(mapBytes) bytes for \(lastPage + 1) pages")
    }
    guard Expected.freeFlags.contains(free.flags), main.flags == 0 else {
      let place = main.flags == 0 ? free.place : main.place
      throw Self.damage(
        file, number, place.offset + 4,
        "the meta page has flags \(free.flags) and \(main.flags)")
    }
    guard transaction > 0 || (free.isEmpty && main.isEmpty) else {
      throw Self.damage(
        file, number, offset(Field.transaction), "there are rows, but no transaction")
    }
  }
}
