internal import Basics
internal import MVCC

/// An entry of a branch or leaf page (lmdb: `MDB_node`).
struct Node {
  enum Flags {
    /// The value lies in overflow pages.
    static let big = 0x01
    /// The value is the record of a tree.
    static let tree = 0x02
  }

  /// Where it begins in its page.
  let start: Int
  let flags: Int
  let keyBytes: Int
  /// Of a leaf's node: the size of the value.
  let valueBytes: Int
  /// Of a branch's node: the page below.
  let child: UInt64
  private let isLeaf: Bool

  /// The entry that the pointer `index` of a page names; its header lies in the page.
  init(_ page: RawSpan, _ index: Int, isLeaf: Bool) {
    start = page.u16(PageWalk.Limits.headerBytes + 2 * index)
    let low = page.u32(start)
    flags = page.u16(start + 4)
    keyBytes = page.u16(start + 6)
    valueBytes = Int(low)
    child = UInt64(low) | UInt64(flags) << 32
    self.isLeaf = isLeaf
  }

  var key: Range<Int> {
    start + PageWalk.Limits.nodeBytes..<start + PageWalk.Limits.nodeBytes + keyBytes
  }

  var isBig: Bool { isLeaf && flags & Flags.big != 0 }

  /// What it takes in the page; an even number.
  var byteCount: Int {
    let value = isLeaf ? (isBig ? 8 : valueBytes) : 0
    return (PageWalk.Limits.nodeBytes + keyBytes + value + 1) & ~1
  }
}

extension PageWalk {
  /// Checks that the nodes fill the used part of a page without gap or overlap, as LMDB keeps
  /// them; returns their number.
  mutating func layout(
    _ page: RawSpan, _ here: PagePlace, isLeaf: Bool
  ) throws(PageCheckError) -> Int {
    func place(_ at: Int) -> PagePlace {
      PagePlace(page: here.page, offset: here.offset + UInt64(at))
    }
    let lower = page.u16(12)
    let upper = page.u16(14)
    guard lower >= Limits.headerBytes, lower & 1 == 0, lower <= upper, upper <= pageBytes,
      upper & 1 == 0
    else {
      throw damage(place(12), "the page is used up to \(lower) and from \(upper) on")
    }
    let count = (lower - Limits.headerBytes) / 2
    for index in 0..<count {
      let at = Limits.headerBytes + 2 * index
      let start = page.u16(at)
      guard start >= upper, start & 1 == 0, start + Limits.nodeBytes <= pageBytes,
        nodeSizes[start / 2] == 0
      else {
        throw damage(place(at), "entry \(index) of the page is placed at byte \(start) of it")
      }
      let node = Node(page, index, isLeaf: isLeaf)
      guard node.keyBytes <= Limits.keyBytesMax, node.byteCount <= pageBytes - start else {
        throw damage(
          place(start),
          "entry \(index) of the page has a key of \(node.keyBytes) bytes and takes "
            + "\(node.byteCount) in all")
      }
      nodeSizes[start / 2] = UInt16(node.byteCount)
    }
    var at = upper
    var found = 0
    while at < pageBytes, nodeSizes[at / 2] != 0 {
      let size = Int(nodeSizes[at / 2])
      nodeSizes[at / 2] = 0
      at += size
      found += 1
    }
    guard at == pageBytes, found == count else {
      throw damage(place(min(at, pageBytes - 1)), "the entries of the page leave gaps or overlap")
    }
    return count
  }

  /// Checks that keys ascend and lie where the pages above say.
  func order(
    _ page: RawSpan, _ count: Int, _ here: PagePlace, _ descent: Descent, isLeaf: Bool
  ) throws(PageCheckError) {
    let isFree = descent.kind == .free
    // LMDB lets the tree of free pages, and only that, keep pages with fewer.
    guard count >= (isFree ? 1 : isLeaf ? 1 : 2) else {
      throw damage(
        PagePlace(page: here.page, offset: here.offset + 12), "the page has \(count) entries")
    }
    // The first key of a branch page means nothing.
    let first = isLeaf ? 0 : 1
    var last = 0
    for index in first..<max(first, count) {
      let node = Node(page, index, isLeaf: isLeaf)
      func place() -> PagePlace {
        PagePlace(page: here.page, offset: here.offset + UInt64(node.start))
      }
      guard isFree ? node.keyBytes == 8 : node.keyBytes > 0 else {
        throw damage(place(), "entry \(index) of the page has a key of \(node.keyBytes) bytes")
      }
      let key = page.extracting(node.key)
      if index > first {
        let before = Node(page, last, isLeaf: isLeaf)
        guard precedes(page.extracting(before.key), key, isFree) else {
          throw damage(place(), "entry \(index) of the page does not come after the one before")
        }
      } else if let low = descent.low, precedes(key, low.rawSpan, isFree) {
        throw damage(
          place(), "the first key of the page comes before what the page above says",
          other: descent.place)
      }
      last = index
    }
    guard count > first, let high = descent.high else { return }
    let node = Node(page, last, isLeaf: isLeaf)
    guard precedes(page.extracting(node.key), high.rawSpan, isFree) else {
      throw damage(
        PagePlace(page: here.page, offset: here.offset + UInt64(node.start)),
        "the last key of the page comes after what the page above says", other: descent.place)
    }
  }

  /// Free pages are listed under numbers, all else under bytes.
  private func precedes(_ left: RawSpan, _ right: RawSpan, _ isNumber: Bool) -> Bool {
    isNumber ? left.u64(0) < right.u64(0) : left.compare(right) < 0
  }

  /// Checks what the entries of a leaf hold.
  mutating func checkRows(
    _ page: RawSpan, _ count: Int, _ here: PagePlace, _ kind: Kind
  ) throws(PageCheckError) {
    for index in 0..<count {
      let node = Node(page, index, isLeaf: true)
      let place = PagePlace(page: here.page, offset: here.offset + UInt64(node.start))
      let known = kind == .main ? Node.Flags.tree : Node.Flags.big
      guard node.flags & ~known == 0 else {
        throw damage(place, "entry \(index) of the page has flags \(node.flags)")
      }
      switch kind {
      case .main: try addBucket(page, node, place)
      case .free:
        let list = try value(page, node, here, place)
        try checkFree(page.extracting(node.key).u64(0), list, node.valueBytes, place)
      case .bucket(let bucket):
        let row = try value(page, node, here, place)
        guard bucket != .key else { continue }
        try checkRow(bucket, page.extracting(node.key), row, node.valueBytes, place)
      }
    }
  }

  /// An entry of the main tree: a bucket of ours and its record.
  private mutating func addBucket(
    _ page: RawSpan, _ node: Node, _ place: PagePlace
  ) throws(PageCheckError) {
    let name = page.extracting(node.key)
    guard let bucket = Bucket.allCases.first(where: { [UInt8]($0.name).rawSpan.equals(name) })
    else {
      let text = name.copied().prefix(32).map { (0x20..<0x7f).contains($0) ? $0 : 0x3f }
      throw damage(
        place,
        "there is a bucket '\(String(decoding: text, as: UTF8.self))', which is none of this "
          + "version's")
    }
    guard node.flags == Node.Flags.tree, node.valueBytes == TreeRecord.byteCount else {
      throw damage(place, "bucket \(bucket.name) has no record of a tree")
    }
    let start = node.key.upperBound
    let record = TreeRecord(
      page.extracting(start..<start + TreeRecord.byteCount),
      at: PagePlace(
        page: place.page, offset: place.offset + UInt64(start - node.start)))
    guard record.flags == 0 else {
      throw damage(record.place, "the record of bucket \(bucket.name) has flags \(record.flags)")
    }
    buckets.append((bucket, record))
  }

  /// The offset in the file of an entry's value; its overflow pages are checked and taken.
  private mutating func value(
    _ page: RawSpan, _ node: Node, _ here: PagePlace, _ place: PagePlace
  ) throws(PageCheckError) -> UInt64 {
    guard node.isBig else { return here.offset + UInt64(node.key.upperBound) }
    let first = page.u64(node.key.upperBound)
    let reference = PagePlace(
      page: place.page, offset: here.offset + UInt64(node.key.upperBound))
    try claim(first, for: reference)
    let start = start(first)
    guard try file.read(at: start, count: Limits.headerBytes, into: &scratch) else {
      throw damage(reference, "names page \(first), which lies beyond the end of the file")
    }
    let found = PagePlace(page: first, offset: start)
    guard scratch.rawSpan.u64(0) == first, scratch.rawSpan.u16(10) == PageFlags.overflow else {
      throw damage(
        found, "the page is not the first one of a large value", other: reference)
    }
    let count = UInt64(scratch.rawSpan.u32(12))
    let bytes = UInt64(pageBytes)
    let needed = (UInt64(Limits.headerBytes - 1) + UInt64(node.valueBytes)) / bytes + 1
    guard count >= needed, count <= meta.lastPage + 1 - first else {
      throw damage(
        found, "the page begins a run of \(count) pages for a value of \(node.valueBytes) bytes",
        other: place)
    }
    guard start + count * bytes <= file.byteCount else {
      throw damage(
        found,
        "the page begins a run of \(count) pages, of which some lie beyond the end of the file",
        other: reference)
    }
    if count > needed, tally.longRun == nil { tally.longRun = found }
    for next in 1..<max(1, count) { try claim(first + next, for: found) }
    tally.overflowPages += count
    return start + UInt64(Limits.headerBytes)
  }
}
