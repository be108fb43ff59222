internal import Basics

extension KeyIndex {
  borrowing func lookUp(_ key: RawSpan) -> Entry? {
    var node = root
    while !node.isLeaf { node = node.child(node.childSlot(key)) }
    let (slot, isEqual) = node.search(key)
    return isEqual ? node.entry(slot) : nil
  }

  /// The first key that is not below `key`.
  borrowing func seek(_ key: RawSpan) -> (leaf: Node, slot: Int)? {
    var node = root
    while !node.isLeaf { node = node.child(node.childSlot(key)) }
    let slot = node.search(key).slot
    if slot < node.count { return (node, slot) }
    return node.next.map { ($0, 0) }
  }

  /// Calls `body` with each entry from `key` on until it returns false. The tree must not change.
  borrowing func visit(from key: RawSpan, body: (Entry) -> Bool) {
    guard var (leaf, slot) = seek(key) else { return }
    while true {
      while slot < leaf.count {
        guard body(leaf.entry(slot)) else { return }
        slot += 1
      }
      guard let next = leaf.next else { return }
      (leaf, slot) = (next, 0)
    }
  }

  /// Adds an entry whose key the tree does not hold.
  mutating func insert(_ entry: Entry) {
    heldCount += 1
    memoryBytes += entry.bytes
    guard let right = insert(entry, into: root) else { return }
    let left = root
    root = makeNode(isLeaf: false)
    root.insert(left.entry(0), child: left, at: 0)
    root.insert(right.entry(0), child: right, at: 1)
  }

  /// Takes an entry out of the tree and frees it.
  mutating func remove(_ entry: Entry) {
    heldCount -= 1
    memoryBytes -= entry.bytes
    remove(entry.key, from: root)
    if !root.isLeaf && root.count == 1 {
      let old = root
      root = old.child(0)
      freeNode(old)
    }
    entry.free()
  }

  static func free(_ node: Node) {
    for slot in 0..<node.count {
      if node.isLeaf { node.entry(slot).free() } else { free(node.child(slot)) }
    }
    node.free()
  }

  /// Returns the new node to the right when `node` was split.
  private mutating func insert(_ entry: Entry, into node: Node) -> Node? {
    if node.isLeaf {
      return add(entry, child: nil, to: node, at: node.search(entry.key).slot)
    }
    let slot = node.childSlot(entry.key)
    let right = insert(entry, into: node.child(slot))
    node.refresh(slot)
    guard let right else { return nil }
    return add(right.entry(0), child: right, to: node, at: slot + 1)
  }

  private mutating func add(_ entry: Entry, child: Node?, to node: Node, at slot: Int) -> Node? {
    guard node.count == Node.slotsMax else {
      node.insert(entry, child: child, at: slot)
      return nil
    }
    let right = makeNode(isLeaf: node.isLeaf)
    // Keys that come in ascending order leave full leaves behind.
    let isAppend = node.isLeaf && node.next == nil && slot == Node.slotsMax
    let middle = isAppend ? Node.slotsMax - Node.slotsMin : Node.slotsMax / 2
    node.moveTail(from: middle, to: right)
    if node.isLeaf {
      right.next = node.next
      node.next = right
    }
    if slot <= middle {
      node.insert(entry, child: child, at: slot)
    } else {
      right.insert(entry, child: child, at: slot - middle)
    }
    return right
  }

  private mutating func remove(_ key: RawSpan, from node: Node) {
    if node.isLeaf {
      let (slot, isEqual) = node.search(key)
      precondition(isEqual, "the key index lost a key")
      node.remove(at: slot)
      return
    }
    let slot = node.childSlot(key)
    let child = node.child(slot)
    remove(key, from: child)
    if child.count >= Node.slotsMin {
      node.refresh(slot)
    } else {
      level(node, at: slot == 0 ? 0 : slot - 1)
    }
  }

  /// Joins the children at `slot` and the one after it, or evens them out when one cannot hold all.
  private mutating func level(_ node: Node, at slot: Int) {
    let left = node.child(slot)
    let right = node.child(slot + 1)
    let total = left.count + right.count
    if total <= Node.slotsMax * 3 / 4 {
      left.takeFirst(right.count, of: right)
      if left.isLeaf { left.next = right.next }
      node.remove(at: slot + 1)
      freeNode(right)
    } else {
      let half = total / 2
      if left.count < half {
        left.takeFirst(half - left.count, of: right)
      } else {
        left.moveTail(from: half, to: right)
      }
      node.refresh(slot + 1)
    }
    node.refresh(slot)
  }

  private mutating func makeNode(isLeaf: Bool) -> Node {
    memoryBytes += Node.bytes(isLeaf: isLeaf)
    return Node.make(isLeaf: isLeaf)
  }

  private mutating func freeNode(_ node: Node) {
    memoryBytes -= Node.bytes(isLeaf: node.isLeaf)
    node.free()
  }
}
