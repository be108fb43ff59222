internal import Basics

/// Which watchers want a key: a hash table for single keys and a tree for ranges.
///
/// Watchers of the same key or range share one place, so that thousands of them cost one search.
/// etcd: mvcc `watcherGroup`.
struct WatchIndex {
  /// What a watcher watches: one key, or [from, to) where an empty `to` has no end.
  struct Interest {
    var from: [UInt8]
    var to: [UInt8]
    var isSingle: Bool
  }

  private struct Group {
    var key: [UInt8]
    var hash: UInt64
    var next: Int32
    var watchers: [Int32]
  }

  private var buckets = [Int32](repeating: -1, count: 16)
  private var groups: [Group] = []
  private var freeGroups: [Int32] = []
  private var groupCount = 0
  private var ranges: RangeTree
  /// By watcher: its place among the watchers of its key or range.
  private var places: [Int32] = []
  private let hashSeed: UInt64

  init(seed: UInt64) {
    var random = Random(seed: seed)
    hashSeed = random.next()
    ranges = RangeTree(seed: random.next())
  }

  mutating func insert(_ watcher: Int, _ interest: Interest) {
    while places.count <= watcher { places.append(-1) }
    if interest.isSingle {
      let group = groupFor(interest.from)
      places[watcher] = Int32(groups[group].watchers.count)
      groups[group].watchers.append(Int32(watcher))
    } else {
      places[watcher] = ranges.insert(Int32(watcher), from: interest.from, to: interest.to)
    }
  }

  mutating func remove(_ watcher: Int, _ interest: Interest) {
    let place = Int(places[watcher])
    guard interest.isSingle else {
      let moved = ranges.remove(place, from: interest.from, to: interest.to)
      if let moved { places[Int(moved)] = Int32(place) }
      return
    }
    let hash = hash(interest.from.rawSpan)
    guard let group = find(interest.from.rawSpan, hash) else { preconditionFailure("no such key") }
    if let moved = groups[group].watchers.removeBySwapping(at: place) {
      places[Int(moved)] = Int32(place)
    }
    if groups[group].watchers.isEmpty { unlink(group) }
  }

  /// Adds the watchers that want `key`.
  func matches(_ key: RawSpan, into matches: inout [Int32]) {
    if groupCount > 0, let group = find(key, hash(key)) {
      matches.append(contentsOf: groups[group].watchers)
    }
    ranges.matches(key, into: &matches)
  }

  // MARK: Single keys

  private func find(_ key: RawSpan, _ hash: UInt64) -> Int? {
    var at = buckets[bucket(hash)]
    while at >= 0 {
      let group = Int(at)
      if groups[group].hash == hash {
        let held = groups[group].key
        if held.rawSpan.equals(key) { return group }
      }
      at = groups[group].next
    }
    return nil
  }

  private mutating func groupFor(_ key: [UInt8]) -> Int {
    let hash = hash(key.rawSpan)
    if let group = find(key.rawSpan, hash) { return group }
    if groupCount >= buckets.count { growBuckets() }
    let bucket = bucket(hash)
    let fresh = Group(key: key, hash: hash, next: buckets[bucket], watchers: [])
    let group: Int
    if let free = freeGroups.popLast() {
      group = Int(free)
      groups[group] = fresh
    } else {
      group = groups.count
      groups.append(fresh)
    }
    buckets[bucket] = Int32(group)
    groupCount += 1
    return group
  }

  private mutating func unlink(_ group: Int) {
    let bucket = bucket(groups[group].hash)
    if buckets[bucket] == Int32(group) {
      buckets[bucket] = groups[group].next
    } else {
      var before = Int(buckets[bucket])
      while groups[before].next != Int32(group) { before = Int(groups[before].next) }
      groups[before].next = groups[group].next
    }
    groups[group] = Group(key: [], hash: 0, next: -1, watchers: [])
    freeGroups.append(Int32(group))
    groupCount -= 1
  }

  private mutating func growBuckets() {
    let old = buckets
    buckets = [Int32](repeating: -1, count: old.count * 2)
    for head in old {
      var at = head
      while at >= 0 {
        let next = groups[Int(at)].next
        let bucket = bucket(groups[Int(at)].hash)
        groups[Int(at)].next = buckets[bucket]
        buckets[bucket] = at
        at = next
      }
    }
  }

  private func bucket(_ hash: UInt64) -> Int { Int(hash & UInt64(buckets.count - 1)) }

  /// Multiply and fold, eight bytes at a time, from a seed that clients do not know.
  private func hash(_ key: RawSpan) -> UInt64 {
    var state = hashSeed ^ UInt64(key.byteCount)
    var at = 0
    while key.byteCount - at >= 8 {
      state = Self.mix(
        state, unsafe key.unsafeLoadUnaligned(fromUncheckedByteOffset: at, as: UInt64.self))
      at += 8
    }
    var last: UInt64 = 1
    while at < key.byteCount {
      last = last << 8 | UInt64(key[at])
      at += 1
    }
    state = Self.mix(state, last)
    return state ^ state >> 29
  }

  private static func mix(_ state: UInt64, _ word: UInt64) -> UInt64 {
    let product = (state ^ word).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
    return product.high ^ product.low &+ word
  }
}

extension [Int32] {
  /// Removes the element at `place` by moving the last there, which is returned unless it was it.
  mutating func removeBySwapping(at place: Int) -> Int32? {
    let last = removeLast()
    guard place < count else { return nil }
    self[place] = last
    return last
  }
}
