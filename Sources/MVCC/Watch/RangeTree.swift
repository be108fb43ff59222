internal import Basics

/// Ranges of keys with their watchers, searched by key: a treap over (from, to) in which each node
/// knows the furthest end below it. A search takes logarithmic time for each range it finds.
struct RangeTree {
  private struct Node {
    var from: [UInt8]
    /// Empty: no end.
    var to: [UInt8]
    var priority: UInt64
    var left = -1
    var right = -1
    /// The node at or below this one whose range ends last.
    var furthest: Int
    var watchers: [Int32] = []
  }

  private var nodes: [Node] = []
  private var free: [Int] = []
  private var root = -1
  private var random: Random

  init(seed: UInt64) { random = Random(seed: seed) }

  /// Returns the watcher's place among those of its range.
  mutating func insert(_ watcher: Int32, from: [UInt8], to: [UInt8]) -> Int32 {
    var node = find(from, to)
    if node < 0 {
      node = make(from, to)
      let (left, right) = split(root, from, to)
      root = join(join(left, node), right)
    }
    nodes[node].watchers.append(watcher)
    return Int32(nodes[node].watchers.count - 1)
  }

  /// Returns the watcher that moved to `place`, if one did.
  mutating func remove(_ place: Int, from: [UInt8], to: [UInt8]) -> Int32? {
    let node = find(from, to)
    precondition(node >= 0, "no such range")
    let moved = nodes[node].watchers.removeBySwapping(at: place)
    if nodes[node].watchers.isEmpty {
      root = erase(root, from, to)
      nodes[node] = Node(from: [], to: [], priority: 0, furthest: node)
      free.append(node)
    }
    return moved
  }

  func matches(_ key: RawSpan, into matches: inout [Int32]) {
    self.matches(root, key, into: &matches)
  }

  private func matches(_ top: Int, _ key: RawSpan, into matches: inout [Int32]) {
    var node = top
    while node >= 0 {
      let furthest = nodes[node].furthest
      guard isBefore(key, endOf: furthest) else { return }
      self.matches(nodes[node].left, key, into: &matches)
      let from = nodes[node].from
      guard from.rawSpan.compare(key) <= 0 else { return }
      if isBefore(key, endOf: node) { matches.append(contentsOf: nodes[node].watchers) }
      node = nodes[node].right
    }
  }

  private func isBefore(_ key: RawSpan, endOf node: Int) -> Bool {
    let to = nodes[node].to
    if to.isEmpty { return true }
    return key.compare(to.rawSpan) < 0
  }

  private func find(_ from: [UInt8], _ to: [UInt8]) -> Int {
    var node = root
    while node >= 0 {
      let order = compare(node, from, to)
      if order == 0 { return node }
      node = order > 0 ? nodes[node].left : nodes[node].right
    }
    return -1
  }

  /// How the node's range sorts against (from, to); no end sorts last.
  private func compare(_ node: Int, _ from: [UInt8], _ to: [UInt8]) -> Int {
    let mine = nodes[node].from
    let order = mine.rawSpan.compare(from.rawSpan)
    return order != 0 ? order : compareEnds(nodes[node].to, to)
  }

  private func compareEnds(_ a: [UInt8], _ b: [UInt8]) -> Int {
    if a.isEmpty || b.isEmpty { return (a.isEmpty ? 1 : 0) - (b.isEmpty ? 1 : 0) }
    return a.rawSpan.compare(b.rawSpan)
  }

  private mutating func make(_ from: [UInt8], _ to: [UInt8]) -> Int {
    let at = free.popLast() ?? nodes.count
    let node = Node(from: from, to: to, priority: random.next(), furthest: at)
    if at == nodes.count { nodes.append(node) } else { nodes[at] = node }
    return at
  }

  private mutating func update(_ node: Int) {
    var furthest = node
    for child in [nodes[node].left, nodes[node].right] where child >= 0 {
      let other = nodes[child].furthest
      if compareEnds(nodes[other].to, nodes[furthest].to) > 0 { furthest = other }
    }
    nodes[node].furthest = furthest
  }

  /// The part below (from, to), and the rest.
  private mutating func split(_ node: Int, _ from: [UInt8], _ to: [UInt8]) -> (Int, Int) {
    guard node >= 0 else { return (-1, -1) }
    if compare(node, from, to) < 0 {
      let (left, right) = split(nodes[node].right, from, to)
      nodes[node].right = left
      update(node)
      return (node, right)
    }
    let (left, right) = split(nodes[node].left, from, to)
    nodes[node].left = right
    update(node)
    return (left, node)
  }

  private mutating func join(_ a: Int, _ b: Int) -> Int {
    guard a >= 0 else { return b }
    guard b >= 0 else { return a }
    if nodes[a].priority > nodes[b].priority {
      nodes[a].right = join(nodes[a].right, b)
      update(a)
      return a
    }
    nodes[b].left = join(a, nodes[b].left)
    update(b)
    return b
  }

  private mutating func erase(_ node: Int, _ from: [UInt8], _ to: [UInt8]) -> Int {
    let order = compare(node, from, to)
    if order == 0 { return join(nodes[node].left, nodes[node].right) }
    if order > 0 {
      nodes[node].left = erase(nodes[node].left, from, to)
    } else {
      nodes[node].right = erase(nodes[node].right, from, to)
    }
    update(node)
    return node
  }
}
