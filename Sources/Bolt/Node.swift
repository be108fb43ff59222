internal import Basics

/// A page of a tree with its overflow, every element checked.
struct Node {
  var page: UInt64 = 0
  var bytes: [UInt8] = []
  var isLeaf = false
  var count = 0
  /// The next element of a walk.
  var next = 0

  struct Row {
    var flags: UInt32
    var key: Range<Int>
    var value: Range<Int>
  }

  /// Takes flags and count from the header, and sees that each element lies inside and that the
  /// keys ascend.
  mutating func check() throws(BoltError) {
    let flags = bytes.rawSpan.number16(8)
    guard flags == Format.leafFlag || flags == Format.branchFlag else {
      throw BoltError(page: page, "it is no page of a tree (flags \(flags))")
    }
    isLeaf = flags == Format.leafFlag
    count = Int(bytes.rawSpan.number16(10))
    next = 0
    try checkElements()
  }

  private func checkElements() throws(BoltError) {
    let all = bytes.rawSpan
    let start = Format.headerBytes + count * Format.elementBytes
    guard start <= bytes.count else {
      throw BoltError(page: page, "it has no room for its \(count) elements")
    }
    guard isLeaf || count > 0 else { throw BoltError(page: page, "a branch without children") }
    var last = 0..<0
    for at in 0..<count {
      let (key, end) = bounds(at)
      guard key.lowerBound >= start, end <= bytes.count else {
        throw BoltError(page: page, "element \(at) lies outside of the page")
      }
      guard !key.isEmpty || !isLeaf, key.count <= BoltLimits.keyBytesMax else {
        throw BoltError(page: page, "element \(at) has a key of \(key.count) bytes")
      }
      if at > 0, all.extracting(last).compare(all.extracting(key)) >= 0 {
        throw BoltError(page: page, "element \(at) is out of order")
      }
      last = key
    }
  }

  func row(_ at: Int) -> Row {
    let element = Format.headerBytes + at * Format.elementBytes
    let all = bytes.rawSpan
    let start = element + Int(all.number32(element + 4))
    let end = start + Int(all.number32(element + 8))
    return Row(
      flags: all.number32(element), key: start..<end,
      value: end..<end + Int(all.number32(element + 12)))
  }

  /// The page below element `at` of a branch.
  func child(_ at: Int) -> UInt64 {
    bytes.rawSpan.number64(Format.headerBytes + at * Format.elementBytes + 8)
  }

  /// The key of element `at`, and where the element's bytes end.
  private func bounds(_ at: Int) -> (key: Range<Int>, end: Int) {
    if isLeaf {
      let row = row(at)
      return (row.key, row.value.upperBound)
    }
    let element = Format.headerBytes + at * Format.elementBytes
    let all = bytes.rawSpan
    let start = element + Int(all.number32(element))
    let end = start + Int(all.number32(element + 4))
    return (start..<end, end)
  }
}

extension BoltFile {
  /// Fills `node` with page `id`, and notes its pages as met.
  mutating func load(_ id: UInt64, into node: inout Node) throws(BoltError) {
    guard id > 1, id < meta.pageCount else {
      throw BoltError(page: id, "it lies outside of the file")
    }
    node.page = id
    node.bytes.removeAll(keepingCapacity: node.bytes.capacity <= 1 << 20)
    try source.append(Int(id) * pageSize, pageSize, to: &node.bytes)
    guard node.bytes.rawSpan.number64(0) == id else {
      throw BoltError(page: id, "it says to be page \(node.bytes.rawSpan.number64(0))")
    }
    let flags = node.bytes.rawSpan.number16(8)
    let overflow = Int(node.bytes.rawSpan.number32(12))
    guard UInt64(overflow) < meta.pageCount - id else {
      throw BoltError(page: id, "its overflow of \(overflow) pages leaves the file")
    }
    let limit = flags == Format.leafFlag ? BoltLimits.leafBytesMax : BoltLimits.branchBytesMax
    guard (overflow + 1) * pageSize <= limit else {
      throw BoltError(page: id, "its overflow of \(overflow) pages is beyond the limit")
    }
    for page in Int(id)...Int(id) + overflow where !seen.insert(page) {
      throw BoltError(page: UInt64(page), "it is used twice")
    }
    if overflow > 0 {
      try source.append((Int(id) + 1) * pageSize, overflow * pageSize, to: &node.bytes)
    }
    try node.check()
  }
}
