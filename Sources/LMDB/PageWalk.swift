internal import Basics
internal import MVCC

/// The walk over all trees of one snapshot; `walkAll` is called once.
struct PageWalk: ~Copyable {
  var file: PageFile
  let meta: MetaPage
  /// The page whose first claim is to be thrown as an error.
  private let sought: UInt64?
  private let progress: (_ known: UInt64, _ all: UInt64) -> Void
  private var known: UInt64 = 2
  /// A bit for each page that a tree has or that is listed as free.
  private var claimed: [UInt64]
  /// The places that name the page under way, from the meta page on.
  private var path: [PagePlace] = []
  /// Page buffers, one for each level of a tree.
  private var buffers: [[UInt8]] = []
  /// For the node at each second byte of a page its size; all 0 between pages.
  var nodeSizes: [UInt16]
  var scratch: [UInt8] = []
  /// The pages and rows of the tree under way.
  var tally = Tally()
  private(set) var treePages: UInt64 = 0
  var freePages: UInt64 = 0
  private(set) var rows: UInt64 = 0
  /// The buckets that the main tree names.
  var buckets: [(bucket: Bucket, record: TreeRecord)] = []

  enum Limits {
    /// lmdb: CURSOR_STACK.
    static let depthMax = 32
    /// lmdb: MDB_MAXKEYSIZE.
    static let keyBytesMax = 511
    static let headerBytes = 16
    static let nodeBytes = 8
  }

  enum PageFlags {
    static let branch = 0x01
    static let leaf = 0x02
    static let overflow = 0x04
  }

  /// What a tree holds.
  enum Kind: Equatable {
    case free
    case main
    case bucket(Bucket)
  }

  struct Tally {
    var branchPages: UInt64 = 0
    var leafPages: UInt64 = 0
    var overflowPages: UInt64 = 0
    var entries: UInt64 = 0
    /// An overflow run that is longer than its value needs, which LMDB rarely leaves.
    var longRun: PagePlace?
  }

  init(
    file: consuming PageFile, meta: MetaPage, seeking page: UInt64?,
    progress: @escaping (UInt64, UInt64) -> Void
  ) {
    self.file = file
    self.meta = meta
    sought = page
    self.progress = progress
    claimed = [UInt64](repeating: 0, count: Int(meta.lastPage / 64) + 1)
    nodeSizes = [UInt16](repeating: 0, count: meta.pageBytes / 2)
  }

  var pageBytes: Int { meta.pageBytes }

  func start(_ page: UInt64) -> UInt64 { page * UInt64(pageBytes) }

  func damage(
    _ place: PagePlace, _ what: String, other: PagePlace? = nil
  ) -> PageCheckError {
    .damaged(
      PageDamage(
        path: file.path, place: place, what: what, others: other.map { [$0] } ?? [],
        via: path.filter { $0 != other && $0 != place }))
  }

  mutating func walkAll() throws(PageCheckError) {
    try walk(meta.main, .main)
    for (bucket, record) in buckets { try walk(record, .bucket(bucket)) }
    try walk(meta.free, .free)
    try checkEnd()
  }

  /// The file may end before the last page only if what lies behind its end is free.
  private func checkEnd() throws(PageCheckError) {
    var page = file.byteCount / UInt64(pageBytes)
    while page <= meta.lastPage {
      guard claimed[Int(page / 64)] & (1 << (page % 64)) != 0 else {
        throw damage(
          PagePlace(page: meta.number, offset: meta.offset(MetaPage.Field.lastPage)),
          "the last page is \(meta.lastPage), but the file ends after "
            + "\(file.byteCount / UInt64(pageBytes)) pages")
      }
      page += 1
    }
  }

  private mutating func walk(_ record: TreeRecord, _ kind: Kind) throws(PageCheckError) {
    tally = Tally()
    if case .bucket = kind { path = [meta.main.rootPlace] } else { path = [] }
    if record.isEmpty {
      guard record.depth == 0 else {
        throw damage(record.place, "a tree without a root has \(record.depth) levels")
      }
    } else {
      guard record.depth >= 1, record.depth <= Limits.depthMax else {
        throw damage(record.place, "a tree has \(record.depth) levels")
      }
      while buffers.count < record.depth { buffers.append([]) }
      try visit(
        Descent(
          page: record.root, place: record.rootPlace, level: 1, depth: record.depth, kind: kind,
          low: nil, high: nil))
    }
    try compare(record.branchPages, tally.branchPages, 8, "branch pages", record)
    try compare(record.leafPages, tally.leafPages, 16, "leaf pages", record)
    try compare(record.overflowPages, tally.overflowPages, 24, "overflow pages", record)
    try compare(record.entries, tally.entries, 32, "rows", record)
    treePages += tally.branchPages + tally.leafPages + tally.overflowPages
    if case .bucket = kind { rows += tally.entries }
  }

  private func compare(
    _ recorded: UInt64, _ found: UInt64, _ field: UInt64, _ what: String, _ record: TreeRecord
  ) throws(PageCheckError) {
    guard recorded != found else { return }
    let place = PagePlace(page: record.place.page, offset: record.place.offset + field)
    throw damage(
      place, "a tree is recorded with \(recorded) \(what) and has \(found)", other: tally.longRun)
  }

  /// Takes `page` for what lies at `place`; each page is taken once.
  mutating func claim(_ page: UInt64, for place: PagePlace) throws(PageCheckError) {
    guard page >= 2, page <= meta.lastPage else {
      throw damage(place, "names page \(page); there are the pages 2 to \(meta.lastPage)")
    }
    if page == sought { throw damage(place, "") }
    let bit: UInt64 = 1 << (page % 64)
    guard claimed[Int(page / 64)] & bit == 0 else {
      throw .damaged(
        PageDamage(
          path: file.path, place: place, what: "names page \(page), which has another use too",
          via: path.filter { $0 != place }, shared: page))
    }
    claimed[Int(page / 64)] |= bit
    known += 1
    if known & 0x1fff == 0 { progress(known, meta.lastPage + 1) }
  }

  /// A page to go down to, and what it must be.
  struct Descent {
    var page: UInt64
    /// Where the page is named.
    var place: PagePlace
    var level: Int
    var depth: Int
    var kind: Kind
    /// The keys lie in [low, high).
    var low: [UInt8]?
    var high: [UInt8]?
  }

  /// Checks a page and all below it. Goes at most `Limits.depthMax` levels deep.
  private mutating func visit(_ descent: Descent) throws(PageCheckError) {
    try claim(descent.page, for: descent.place)
    path.append(descent.place)
    let here = PagePlace(page: descent.page, offset: start(descent.page))
    var bytes: [UInt8] = []
    swap(&bytes, &buffers[descent.level - 1])
    guard try file.read(at: here.offset, count: pageBytes, into: &bytes) else {
      throw damage(
        descent.place, "names page \(descent.page), which lies beyond the end of the file")
    }
    try check(bytes.rawSpan, here, descent)
    swap(&bytes, &buffers[descent.level - 1])
    path.removeLast()
  }

  private mutating func check(
    _ page: RawSpan, _ here: PagePlace, _ descent: Descent
  ) throws(PageCheckError) {
    guard page.u64(0) == descent.page else {
      throw damage(
        here, "the page says that it is page \(page.u64(0))", other: descent.place)
    }
    let isLeaf = descent.level == descent.depth
    guard page.u16(10) == (isLeaf ? PageFlags.leaf : PageFlags.branch) else {
      throw damage(
        PagePlace(page: here.page, offset: here.offset + 10),
        "the page has flags \(page.u16(10)) and should be a \(isLeaf ? "leaf" : "branch")",
        other: descent.place)
    }
    let count = try layout(page, here, isLeaf: isLeaf)
    try order(page, count, here, descent, isLeaf: isLeaf)
    if isLeaf {
      tally.leafPages += 1
      tally.entries += UInt64(count)
      try checkRows(page, count, here, descent.kind)
    } else {
      tally.branchPages += 1
      try visitChildren(page, count, here, descent)
    }
  }

  private mutating func visitChildren(
    _ page: RawSpan, _ count: Int, _ here: PagePlace, _ descent: Descent
  ) throws(PageCheckError) {
    var child = descent
    child.level += 1
    for index in 0..<count {
      let node = Node(page, index, isLeaf: false)
      child.page = node.child
      child.place = PagePlace(page: here.page, offset: here.offset + UInt64(node.start))
      if index > 0 { child.low = child.high }
      child.high =
        index + 1 < count
        ? page.extracting(Node(page, index + 1, isLeaf: false).key).copied() : descent.high
      try visit(child)
    }
  }
}
