internal import Basics

/// A node of the key index's B+tree: a handle to one raw allocation.
///
/// A slot is an entry and, in an inner node, the child whose smallest entry that is. All keys of a
/// node share their first `prefix` bytes; `heads` holds the next eight of each, big-endian and
/// padded with zeros, so that most searches touch no key but the first.
@safe struct Node {
  static let slotsMax = 64
  /// A node other than the root that falls below this is joined with a neighbour or filled from it.
  static let slotsMin = 16

  @safe private struct Header {
    var count: Int32
    var isLeaf: Bool
    var prefix: Int
    /// The leaf to the right.
    var next: UnsafeMutableRawPointer?
  }

  private let base: UnsafeMutableRawPointer

  private static var headsOffset: Int { MemoryLayout<Header>.stride }
  private static var entriesOffset: Int { headsOffset + slotsMax * 8 }
  private static var childrenOffset: Int {
    entriesOffset + slotsMax * MemoryLayout<Entry>.stride
  }
  static func bytes(isLeaf: Bool) -> Int {
    childrenOffset + (isLeaf ? 0 : slotsMax * MemoryLayout<Node>.stride)
  }

  /// Allocates; `free` must follow.
  static func make(isLeaf: Bool) -> Node {
    let base = UnsafeMutableRawPointer.allocate(
      byteCount: bytes(isLeaf: isLeaf), alignment: 16)
    unsafe base.initializeMemory(
      as: Header.self, to: Header(count: 0, isLeaf: isLeaf, prefix: 0, next: nil))
    return unsafe Node(base: base)
  }

  func free() { unsafe base.deallocate() }

  private var header: UnsafeMutablePointer<Header> {
    unsafe base.assumingMemoryBound(to: Header.self)
  }
  private var heads: UnsafeMutablePointer<UInt64> {
    unsafe (base + Self.headsOffset).assumingMemoryBound(to: UInt64.self)
  }
  private var entries: UnsafeMutablePointer<Entry> {
    unsafe (base + Self.entriesOffset).assumingMemoryBound(to: Entry.self)
  }
  private var children: UnsafeMutablePointer<Node> {
    unsafe (base + Self.childrenOffset).assumingMemoryBound(to: Node.self)
  }

  var isLeaf: Bool { unsafe header.pointee.isLeaf }
  var count: Int { Int(unsafe header.pointee.count) }
  var next: Node? {
    get { unsafe header.pointee.next.map { unsafe Node(base: $0) } }
    nonmutating set { unsafe header.pointee.next = newValue?.base }
  }

  func entry(_ slot: Int) -> Entry {
    precondition(slot >= 0 && slot < count)
    return unsafe entries[slot]
  }

  func child(_ slot: Int) -> Node {
    precondition(slot >= 0 && slot < count && !isLeaf)
    return unsafe children[slot]
  }

  /// The first slot whose key is not below `key`, and whether it is `key`.
  func search(_ key: RawSpan) -> (slot: Int, isEqual: Bool) {
    let count = count
    guard count > 0 else { return (0, false) }
    let prefix = unsafe header.pointee.prefix
    if prefix > 0 {
      let first = unsafe entries[0]
      let order = key.extracting(first: prefix).compare(first.key.extracting(first: prefix))
      if order != 0 { return (order < 0 ? 0 : count, false) }
    }
    let head = Self.head(key, after: prefix)
    var low = 0
    var high = count
    while low < high {
      let middle = (low + high) / 2
      if unsafe heads[middle] < head { low = middle + 1 } else { high = middle }
    }
    // Few keys share a head; a long run of them is halved all the same.
    high = runEnd(head, from: low)
    while low < high {
      let middle = (low + high) / 2
      let order = unsafe entries[middle].key.compare(key)
      if order == 0 { return (middle, true) }
      if order < 0 { low = middle + 1 } else { high = middle }
    }
    return (low, false)
  }

  /// The slot of the child that holds `key` if any does.
  func childSlot(_ key: RawSpan) -> Int {
    let (slot, isEqual) = search(key)
    return isEqual ? slot : max(slot - 1, 0)
  }

  /// Makes room at `slot` and puts an entry there, with its child in an inner node.
  func insert(_ entry: Entry, child: Node?, at slot: Int) {
    let count = count
    precondition(slot >= 0 && slot <= count && count < Self.slotsMax)
    let moved = count - slot
    unsafe (heads + slot + 1).update(from: heads + slot, count: moved)
    unsafe (entries + slot + 1).update(from: entries + slot, count: moved)
    if let child {
      unsafe (children + slot + 1).update(from: children + slot, count: moved)
      unsafe children[slot] = child
    }
    unsafe header.pointee.count = Int32(count + 1)
    place(entry, at: slot, witness: slot == 0 ? 1 : 0)
  }

  func remove(at slot: Int) {
    let count = count
    precondition(slot >= 0 && slot < count)
    let moved = count - slot - 1
    unsafe (heads + slot).update(from: heads + slot + 1, count: moved)
    unsafe (entries + slot).update(from: entries + slot + 1, count: moved)
    if !isLeaf { unsafe (children + slot).update(from: children + slot + 1, count: moved) }
    unsafe header.pointee.count = Int32(count - 1)
  }

  /// Sets the entry of a slot to its child's smallest, after a change below.
  func refresh(_ slot: Int) {
    let smallest = child(slot).entry(0)
    place(smallest, at: slot, witness: slot == 0 ? 1 : 0)
  }

  /// Moves the slots from `slot` on to the start of `target`, which is the node to the right.
  func moveTail(from slot: Int, to target: Node) {
    let moved = count - slot
    let kept = target.count
    precondition(moved >= 0 && moved + kept <= Self.slotsMax && isLeaf == target.isLeaf)
    unsafe (target.entries + moved).update(from: target.entries, count: kept)
    unsafe target.entries.update(from: entries + slot, count: moved)
    if !isLeaf {
      unsafe (target.children + moved).update(from: target.children, count: kept)
      unsafe target.children.update(from: children + slot, count: moved)
    }
    unsafe header.pointee.count = Int32(slot)
    unsafe target.header.pointee.count = Int32(moved + kept)
    rebuildHeads()
    target.rebuildHeads()
  }

  /// Moves the first `moved` slots of `source`, the node to the right, behind the own ones.
  func takeFirst(_ moved: Int, of source: Node) {
    let count = count
    let left = source.count - moved
    precondition(left >= 0 && moved + count <= Self.slotsMax && isLeaf == source.isLeaf)
    unsafe (entries + count).update(from: source.entries, count: moved)
    unsafe source.entries.update(from: source.entries + moved, count: left)
    if !isLeaf {
      unsafe (children + count).update(from: source.children, count: moved)
      unsafe source.children.update(from: source.children + moved, count: left)
    }
    unsafe header.pointee.count = Int32(count + moved)
    unsafe source.header.pointee.count = Int32(left)
    rebuildHeads()
    source.rebuildHeads()
  }

  /// `witness` is a slot that has its head and shares the prefix, if the node has one.
  private func place(_ entry: Entry, at slot: Int, witness: Int) {
    unsafe entries[slot] = entry
    let prefix = unsafe header.pointee.prefix
    guard count > 1 else { return rebuildHeads() }
    let shared = unsafe sharedPrefix(entry.key, entries[witness].key, atMost: prefix)
    if shared < prefix { return rebuildHeads() }
    unsafe heads[slot] = Self.head(entry.key, after: prefix)
  }

  private func rebuildHeads() {
    let count = count
    guard count > 0 else { return unsafe header.pointee.prefix = 0 }
    let prefix = unsafe sharedPrefix(entries[0].key, entries[count - 1].key, atMost: .max)
    unsafe header.pointee.prefix = prefix
    for slot in 0..<count {
      unsafe heads[slot] = Self.head(entries[slot].key, after: prefix)
    }
  }

  private func runEnd(_ head: UInt64, from slot: Int) -> Int {
    var end = slot
    while unsafe end < count && heads[end] == head { end += 1 }
    return end
  }

  private static func head(_ key: RawSpan, after prefix: Int) -> UInt64 {
    let left = key.byteCount - prefix
    if left >= 8 {
      return unsafe UInt64(
        bigEndian: key.unsafeLoadUnaligned(fromUncheckedByteOffset: prefix, as: UInt64.self))
    }
    guard left > 0 else { return 0 }
    var head: UInt64 = 0
    for offset in prefix..<key.byteCount { head = head << 8 | UInt64(key[offset]) }
    return head << UInt64(8 * (8 - left))
  }
}

/// How many bytes both keys share at their start, up to `limit`.
private func sharedPrefix(_ a: RawSpan, _ b: RawSpan, atMost limit: Int) -> Int {
  let most = min(a.byteCount, b.byteCount, limit)
  var count = 0
  while count + 8 <= most {
    let x = unsafe a.unsafeLoadUnaligned(fromUncheckedByteOffset: count, as: UInt64.self)
    let y = unsafe b.unsafeLoadUnaligned(fromUncheckedByteOffset: count, as: UInt64.self)
    if x != y { return count + (x ^ y).trailingZeroBitCount / 8 }
    count += 8
  }
  while count < most && a[count] == b[count] { count += 1 }
  return count
}
