internal import Basics

/// What the first pass over the rows found out: the place of everything.
public struct BoltLayout: Equatable, Sendable {
  public let pageSize: Int
  public let pageCount: UInt64
  let root: UInt64

  /// The size of the file.
  public var bytes: Int { Int(pageCount) * pageSize }
}

/// Writes a bbolt file from its start to its end, without going back: one pass over all rows
/// counts the pages, a second pass over the same rows gives them out. What is held are the
/// unfinished nodes of one tree, a page or row each, and the buckets' own rows.
///
/// Pages: two meta pages, an empty freelist, then each bucket's tree, children before their
/// parents, and the tree of buckets.
public struct BoltWriter: ~Copyable {
  private static let freelist: UInt64 = 2
  private static let firstPage: UInt64 = 3

  private let layout: BoltLayout?
  private var output: PageOutput
  private var tree: TreeBuilder
  private var bucket: [UInt8]?
  /// Rows of the root tree: names with a bucket's header, and its page when it is inline.
  private var buckets: [(name: [UInt8], value: [UInt8])] = []

  /// The pass that counts; `pageSize` is a power of two from 1,024.
  public init(countingPagesOf pageSize: Int) {
    precondition(pageSize >= 1024 && pageSize <= 65_536 && pageSize & (pageSize - 1) == 0)
    layout = nil
    output = PageOutput(pageSize: pageSize, keeps: false, next: Self.firstPage)
    tree = TreeBuilder(pageSize: pageSize, keeps: false, inlines: true)
  }

  /// The pass that writes, over the rows that gave `layout`.
  public init(writing layout: BoltLayout) {
    self.layout = layout
    let pageSize = layout.pageSize
    output = PageOutput(pageSize: pageSize, keeps: true, next: Self.firstPage)
    tree = TreeBuilder(pageSize: pageSize, keeps: true, inlines: true)
    // The newer one first, as in what bbolt's `Tx.WriteTo` writes: the next transaction takes
    // the place of the older.
    for page: UInt64 in 0..<2 {
      Meta(
        pageSize: pageSize, root: layout.root, freelist: Self.freelist,
        pageCount: layout.pageCount, transaction: 2 - page
      ).append(page: page, to: &output.bytes)
    }
    appendHeader(
      id: Self.freelist, flags: Format.freelistFlag, count: 0, overflow: 0, to: &output.bytes)
    pad(&output.bytes, to: Int(Self.firstPage) * pageSize)
  }

  /// Starts a bucket; buckets come in ascending order of their names.
  public mutating func begin(_ name: [UInt8]) {
    precondition(bucket == nil && buckets.count < BoltLimits.bucketsMax)
    bucket = name
    tree = TreeBuilder(pageSize: output.pageSize, keeps: output.keeps, inlines: true)
  }

  /// Adds a row to the bucket, behind all that it has. Throws for a key or value that bbolt does
  /// not take, and for one out of order.
  public mutating func add(_ key: RawSpan, _ value: RawSpan) throws(BoltError) {
    precondition(bucket != nil)
    try tree.add(flags: 0, key, value, to: &output)
  }

  /// Ends the bucket.
  public mutating func end() {
    guard let name = bucket.take() else { preconditionFailure("a bucket is open") }
    var value: [UInt8] = []
    switch tree.finish(to: &output) {
    case .page(let page):
      value.append(little: page)
      value.append(little: UInt64(0))
    case .inline(let bytes):
      value.append(little: UInt64(0))
      value.append(little: UInt64(0))
      value += bytes
    }
    buckets.append((name, value))
  }

  /// Ends the file; `pending` has its last bytes then. Throws when the rows were not those of the
  /// first pass.
  public mutating func finish() throws(BoltError) -> BoltLayout {
    precondition(bucket == nil)
    tree = TreeBuilder(pageSize: output.pageSize, keeps: output.keeps, inlines: false)
    for (name, value) in buckets {
      try tree.add(flags: Format.bucketFlag, name.rawSpan, value.rawSpan, to: &output)
    }
    guard case .page(let root) = tree.finish(to: &output) else {
      preconditionFailure("the tree of buckets is never inline")
    }
    let found = BoltLayout(pageSize: output.pageSize, pageCount: output.next, root: root)
    guard layout == nil || layout == found else {
      throw BoltError(page: nil, "the rows changed between the two passes")
    }
    return found
  }

  /// Bytes that are written and not yet taken.
  public var pendingBytes: Int { output.bytes.count }

  /// Moves the bytes that are written into `bytes`, which is emptied first.
  public mutating func take(into bytes: inout [UInt8]) {
    bytes.removeAll(keepingCapacity: true)
    swap(&bytes, &output.bytes)
  }
}
