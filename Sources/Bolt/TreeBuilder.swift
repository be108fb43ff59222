internal import Basics

/// Pages on their way out, numbered as they come. Without `keeps` they are only counted.
struct PageOutput {
  let pageSize: Int
  let keeps: Bool
  var next: UInt64
  var bytes: [UInt8] = []

  init(pageSize: Int, keeps: Bool, next: UInt64) {
    self.pageSize = pageSize
    self.keeps = keeps
    self.next = next
  }

  /// How many pages `count` bytes take.
  func pages(_ count: Int) -> Int { (count + pageSize - 1) / pageSize }

  /// Gives the node of `count` bytes its number, and lets `write` append it.
  mutating func emit(
    _ count: Int, _ write: (_ id: UInt64, _ overflow: Int, inout [UInt8]) -> Void
  ) -> UInt64 {
    let id = next
    let pages = pages(count)
    next += UInt64(pages)
    guard keeps else { return id }
    let start = bytes.count
    write(id, pages - 1, &bytes)
    precondition(bytes.count == start + count, "a node has the size that was counted")
    pad(&bytes, to: start + pages * pageSize)
    return id
  }
}

/// Builds one tree from rows that come in order, from the leaves up: a node goes out when it is
/// full, and only the unfinished node of each level is held.
struct TreeBuilder {
  enum Root {
    case page(UInt64)
    /// A leaf so small that it fits into the row that names the bucket.
    case inline([UInt8])
  }

  private struct Leaf {
    var elements: [(flags: UInt32, key: Int, value: Int)] = []
    var data: [UInt8] = []
    /// With the values, which `data` lacks while pages are only counted.
    var bytes = Format.headerBytes
  }

  private struct Branch {
    var children: [(key: Int, page: UInt64)] = []
    var data: [UInt8] = []
    var bytes: Int { Format.headerBytes + children.count * Format.elementBytes + data.count }
  }

  /// How full a page is made, in percent. etcd: the fill of bucket `key`.
  private static let fillPercent = 90

  private let keeps: Bool
  private let fillBytes: Int
  private let inlineBytesMax: Int
  private var leaf = Leaf()
  private var firstKey: [UInt8] = []
  private var lastKey: [UInt8] = []
  private var levels: [Branch] = []

  /// bbolt puts leaves of up to a quarter of a page inline.
  init(pageSize: Int, keeps: Bool, inlines: Bool) {
    self.keeps = keeps
    fillBytes = pageSize * Self.fillPercent / 100
    inlineBytesMax = inlines ? pageSize / 4 : 0
  }

  /// Adds a row whose key is behind the last one's.
  mutating func add(
    flags: UInt32, _ key: RawSpan, _ value: RawSpan, to output: inout PageOutput
  ) throws(BoltError) {
    guard key.byteCount > 0, key.byteCount <= BoltLimits.keyBytesMax else {
      throw BoltError(page: nil, "a key of \(key.byteCount) bytes")
    }
    let bytes = Format.elementBytes + key.byteCount + value.byteCount
    guard bytes <= BoltLimits.leafBytesMax / 2 else {
      throw BoltError(page: nil, "a value of \(value.byteCount) bytes")
    }
    guard lastKey.isEmpty || lastKey.rawSpan.compare(key) < 0 else {
      throw BoltError(page: nil, "rows do not come in ascending order")
    }
    if !leaf.elements.isEmpty, leaf.bytes + bytes > fillBytes { flushLeaf(to: &output) }
    if leaf.elements.isEmpty {
      firstKey.removeAll(keepingCapacity: true)
      firstKey.append(contentsOf: key)
    }
    lastKey.removeAll(keepingCapacity: true)
    lastKey.append(contentsOf: key)
    leaf.elements.append((flags, key.byteCount, value.byteCount))
    leaf.bytes += bytes
    // A small leaf may turn out inline, so that it is kept when pages are only counted as well.
    if keeps || leaf.bytes <= inlineBytesMax {
      leaf.data.append(contentsOf: key)
      leaf.data.append(contentsOf: value)
    }
  }

  /// Ends the tree: what is unfinished goes out, up to the root.
  mutating func finish(to output: inout PageOutput) -> Root {
    if levels.isEmpty, leaf.bytes <= inlineBytesMax {
      var bytes: [UInt8] = []
      appendLeaf(id: 0, overflow: 0, to: &bytes)
      return .inline(bytes)
    }
    if !leaf.elements.isEmpty || levels.isEmpty {
      let page = emitLeaf(to: &output)
      guard !levels.isEmpty else { return .page(page) }
      add(page, firstKey, level: 0, to: &output)
    }
    var level = 0
    while true {
      // One child at the top is the root itself; further down there are two or more.
      if level == levels.count - 1, levels[level].children.count == 1 {
        return .page(levels[level].children[0].page)
      }
      let key = firstKey(of: levels[level])
      let page = emitBranch(&levels[level], levels[level].children.count, to: &output)
      if level == levels.count - 1 { return .page(page) }
      level += 1
      add(page, key, level: level, to: &output)
    }
  }

  // MARK: Leaves

  private mutating func flushLeaf(to output: inout PageOutput) {
    let page = emitLeaf(to: &output)
    add(page, firstKey, level: 0, to: &output)
  }

  private mutating func emitLeaf(to output: inout PageOutput) -> UInt64 {
    let page = output.emit(leaf.bytes) { id, overflow, bytes in
      appendLeaf(id: id, overflow: overflow, to: &bytes)
    }
    leaf.elements.removeAll(keepingCapacity: true)
    leaf.data.removeAll(keepingCapacity: leaf.data.capacity <= 1 << 20)
    leaf.bytes = Format.headerBytes
    return page
  }

  private func appendLeaf(id: UInt64, overflow: Int, to bytes: inout [UInt8]) {
    appendHeader(
      id: id, flags: Format.leafFlag, count: leaf.elements.count, overflow: overflow, to: &bytes)
    var position = leaf.elements.count * Format.elementBytes
    for element in leaf.elements {
      bytes.append(little: element.flags)
      bytes.append(little: UInt32(position))
      bytes.append(little: UInt32(element.key))
      bytes.append(little: UInt32(element.value))
      position += element.key + element.value - Format.elementBytes
    }
    bytes += leaf.data
  }

  // MARK: Branches

  private func firstKey(of branch: Branch) -> [UInt8] {
    Array(branch.data[..<branch.children[0].key])
  }

  /// Adds a child; a full node goes out without its newest child, so that the next has two.
  private mutating func add(
    _ page: UInt64, _ key: [UInt8], level: Int, to output: inout PageOutput
  ) {
    if levels.count == level { levels.append(Branch()) }
    if levels[level].children.count > 2,
      levels[level].bytes + Format.elementBytes + key.count > fillBytes
    {
      let first = firstKey(of: levels[level])
      let full = emitBranch(&levels[level], levels[level].children.count - 1, to: &output)
      add(full, first, level: level + 1, to: &output)
    }
    levels[level].children.append((key.count, page))
    levels[level].data += key
  }

  /// Lets the first `count` children go out as a page; the others stay.
  private func emitBranch(
    _ branch: inout Branch, _ count: Int, to output: inout PageOutput
  ) -> UInt64 {
    let children = branch.children[..<count]
    let dataBytes = children.reduce(0) { $0 + $1.key }
    let data = branch.data[..<dataBytes]
    let size = Format.headerBytes + count * Format.elementBytes + dataBytes
    let page = output.emit(size) { id, overflow, bytes in
      appendHeader(
        id: id, flags: Format.branchFlag, count: count, overflow: overflow, to: &bytes)
      var position = count * Format.elementBytes
      for child in children {
        bytes.append(little: UInt32(position))
        bytes.append(little: UInt32(child.key))
        bytes.append(little: child.page)
        position += child.key - Format.elementBytes
      }
      bytes += data
    }
    branch.children.removeFirst(count)
    branch.data.removeFirst(dataBytes)
    return page
  }
}
