internal import Basics

/// A bucket of a bbolt file.
public struct BoltBucket: Sendable {
  public let name: [UInt8]
  let root: UInt64
  /// A small bucket's only page, kept in the row that names it.
  let inline: [UInt8]
  /// The page of that row.
  let holder: UInt64
}

extension BoltFile {
  /// The buckets, by name in ascending order.
  public mutating func buckets() throws(BoltError) -> [BoltBucket] {
    seen.removeAll()
    return try listBuckets()
  }

  private mutating func listBuckets() throws(BoltError) -> [BoltBucket] {
    var found: [BoltBucket] = []
    var failure: BoltError?
    let pageSize = pageSize
    try walk(root: meta.root) { node, row in
      let bytes = node.bytes.rawSpan
      guard row.flags & Format.bucketFlag != 0, row.value.count >= Format.bucketBytes else {
        failure = BoltError(page: node.page, "a row of the root is no bucket")
        return false
      }
      guard found.count < BoltLimits.bucketsMax else {
        failure = BoltError(page: node.page, "more than \(BoltLimits.bucketsMax) buckets")
        return false
      }
      let root = bytes.number64(row.value.lowerBound)
      let inline = row.value.lowerBound + Format.bucketBytes..<row.value.upperBound
      guard root != 0 || inline.count >= Format.headerBytes && inline.count <= pageSize else {
        failure = BoltError(page: node.page, "a bucket's inline page of \(inline.count) bytes")
        return false
      }
      found.append(
        BoltBucket(
          name: bytes.extracting(row.key).copied(), root: root,
          inline: root == 0 ? bytes.extracting(inline).copied() : [], holder: node.page))
      return true
    }
    if let failure { throw failure }
    return found
  }

  /// Calls `body` with the rows of `bucket`, ascending, until it returns false. Holds the pages
  /// from the root to a leaf.
  public mutating func scan(
    _ bucket: BoltBucket, _ body: (RawSpan, RawSpan) -> Bool
  ) throws(BoltError) {
    seen.removeAll()
    try scanOn(bucket, body)
  }

  private mutating func scanOn(
    _ bucket: BoltBucket, _ body: (RawSpan, RawSpan) -> Bool
  ) throws(BoltError) {
    var nested: UInt64?
    func give(_ node: borrowing Node, _ row: Node.Row) -> Bool {
      guard row.flags & Format.bucketFlag == 0 else {
        nested = node.page
        return false
      }
      let bytes = node.bytes.rawSpan
      return body(bytes.extracting(row.key), bytes.extracting(row.value))
    }
    if bucket.root == 0 {
      var node = Node(page: bucket.holder, bytes: bucket.inline)
      try node.check()
      guard node.isLeaf else { throw BoltError(page: node.page, "an inline page is no leaf") }
      for at in 0..<node.count where !give(node, node.row(at)) { break }
    } else {
      try walk(root: bucket.root, give)
    }
    if let nested { throw BoltError(page: nested, "a bucket inside a bucket") }
  }

  /// Reads every page: all rows of all buckets, and the freelist; `bucket` is called before a
  /// bucket's rows. Stops early, and without a judgement, when `row` returns false. A page that
  /// two trees share, or that is neither used nor free, is refused. bbolt: `Tx.Check`.
  public mutating func scanAll(
    bucket: (RawSpan) -> Void, row: (RawSpan, RawSpan) -> Bool
  ) throws(BoltError) {
    seen.removeAll()
    let all = try listBuckets()
    var goesOn = true
    for entry in all {
      bucket(entry.name.rawSpan)
      try scanOn(entry) { key, value in
        goesOn = row(key, value)
        return goesOn
      }
      guard goesOn else { return }
    }
    guard meta.freelist != Format.noFreelist else { return }
    try readFreelist()
    if let page = seen.firstMissing(from: 2) {
      throw BoltError(page: UInt64(page), "unreachable unfreed")
    }
  }

  /// Notes the free pages, and those of the freelist, as met.
  private mutating func readFreelist() throws(BoltError) {
    let id = meta.freelist
    var bytes: [UInt8] = []
    try source.append(Int(id) * pageSize, pageSize, to: &bytes)
    let overflow = Int(bytes.rawSpan.number32(12))
    guard bytes.rawSpan.number64(0) == id, bytes.rawSpan.number16(8) == Format.freelistFlag,
      UInt64(overflow) < meta.pageCount - id
    else { throw BoltError(page: id, "it is no freelist") }
    // From 65,535 pages on, the number stands before them.
    var count = UInt64(bytes.rawSpan.number16(10))
    var at = Format.headerBytes
    if count == 0xffff {
      count = bytes.rawSpan.number64(at)
      at += 8
    }
    let room = (overflow + 1) * pageSize - at
    guard count <= UInt64(room / 8) else {
      throw BoltError(page: id, "it has no room for its \(count) pages")
    }
    for page in Int(id)...Int(id) + overflow { try meet(UInt64(page)) }
    var left = Int(count) * 8
    var offset = Int(id) * pageSize + at
    while left > 0 {
      let piece = min(left, BoltLimits.freelistBytesPerRead)
      bytes = []
      try source.append(offset, piece, to: &bytes)
      for at in stride(from: 0, to: piece, by: 8) {
        let page = bytes.rawSpan.number64(at)
        guard page > 1, page < meta.pageCount else {
          throw BoltError(page: id, "it frees page \(page), which is outside of the file")
        }
        try meet(page)
      }
      left -= piece
      offset += piece
    }
  }

  private mutating func meet(_ page: UInt64) throws(BoltError) {
    guard seen.insert(Int(page)) else { throw BoltError(page: page, "it is used and free") }
  }

  /// Calls `body` with each row below `root`, from left to right, until it returns false. Keys
  /// that do not ascend from leaf to leaf are refused.
  private mutating func walk(
    root: UInt64, _ body: (borrowing Node, Node.Row) -> Bool
  ) throws(BoltError) {
    var depth = 0
    var last: [UInt8] = []
    try enter(root, at: 0)
    while true {
      if levels[depth].isLeaf {
        guard try visit(levels[depth], &last, body) else { return }
        guard depth > 0 else { return }
        depth -= 1
      } else if levels[depth].next < levels[depth].count {
        let child = levels[depth].child(levels[depth].next)
        levels[depth].next += 1
        depth += 1
        guard depth < BoltLimits.depthMax else {
          throw BoltError(page: child, "the tree is deeper than \(BoltLimits.depthMax)")
        }
        try enter(child, at: depth)
      } else {
        guard depth > 0 else { return }
        depth -= 1
      }
    }
  }

  private mutating func enter(_ page: UInt64, at depth: Int) throws(BoltError) {
    if levels.count == depth { levels.append(Node()) }
    var node = Node()
    swap(&node, &levels[depth])
    try load(page, into: &node)
    swap(&node, &levels[depth])
  }

  private func visit(
    _ node: Node, _ last: inout [UInt8], _ body: (borrowing Node, Node.Row) -> Bool
  ) throws(BoltError) -> Bool {
    guard node.count > 0 else { return true }
    let bytes = node.bytes.rawSpan
    let first = bytes.extracting(node.row(0).key)
    guard last.isEmpty || last.rawSpan.compare(first) < 0 else {
      throw BoltError(page: node.page, "its rows are not behind those of the page before")
    }
    for at in 0..<node.count {
      guard body(node, node.row(at)) else { return false }
    }
    last.removeAll(keepingCapacity: true)
    last.append(contentsOf: bytes.extracting(node.row(node.count - 1).key))
    return true
  }
}
