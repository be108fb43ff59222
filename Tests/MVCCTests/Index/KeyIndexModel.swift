import Basics
import MVCC

/// etcd's key index rules, written plainly: generations as arrays, everything searched in order.
struct KeyIndexModel {
  struct Generation {
    var created = Revision.zero
    var version: Int64 = 0
    var revisions: [Revision] = []
  }

  /// Per key the generations; the last is empty when the key is deleted.
  var keys: [(key: [UInt8], generations: [Generation])] = []

  func position(_ key: [UInt8]) -> (Int, Bool) {
    var low = 0
    var high = keys.count
    while low < high {
      let middle = (low + high) / 2
      if keys[middle].key.lexicographicallyPrecedes(key) { low = middle + 1 } else { high = middle }
    }
    return (low, low < keys.count && keys[low].key == key)
  }

  mutating func put(_ key: [UInt8], at revision: Revision) -> KeyIndex.Hit {
    let (at, isHeld) = position(key)
    if !isHeld { keys.insert((key, [Generation()]), at: at) }
    var generation = keys[at].generations.removeLast()
    if generation.revisions.isEmpty { generation.created = revision }
    generation.revisions.append(revision)
    generation.version += 1
    keys[at].generations.append(generation)
    return find(key, at: revision.main)!
  }

  mutating func tombstone(_ key: [UInt8], at revision: Revision) -> Bool {
    let (at, isHeld) = position(key)
    guard isHeld, !keys[at].generations.last!.revisions.isEmpty else { return false }
    let last = keys[at].generations.count - 1
    keys[at].generations[last].revisions.append(revision)
    keys[at].generations[last].version += 1
    keys[at].generations.append(Generation())
    return true
  }

  func lastRevision(_ key: [UInt8]) -> Int64? {
    let (at, isHeld) = position(key)
    return isHeld ? keys[at].generations.flatMap(\.revisions).last?.main : nil
  }

  func find(_ key: [UInt8], at revision: Int64) -> KeyIndex.Hit? {
    let (at, isHeld) = position(key)
    return isHeld ? find(keys[at].generations, at: revision) : nil
  }

  private func find(_ generations: [Generation], at revision: Int64) -> KeyIndex.Hit? {
    for (number, generation) in generations.enumerated().reversed() {
      guard let first = generation.revisions.first else { continue }
      let isEnded = number < generations.count - 1
      if isEnded && generation.revisions.last!.main <= revision { return nil }
      guard first.main <= revision else { continue }
      let place = generation.revisions.lastIndex { $0.main <= revision }!
      return KeyIndex.Hit(
        modified: generation.revisions[place], created: generation.created,
        version: generation.version - Int64(generation.revisions.count - place - 1))
    }
    return nil
  }

  func scan(from: [UInt8], to: [UInt8], at revision: Int64) -> [(key: [UInt8], hit: KeyIndex.Hit)] {
    keys.compactMap { held in
      guard !held.key.lexicographicallyPrecedes(from) else { return nil }
      guard to.isEmpty || held.key.lexicographicallyPrecedes(to) else { return nil }
      return find(held.generations, at: revision).map { (held.key, $0) }
    }
  }

  /// The generation that a compaction at `revision` stops in, and the place in it.
  private func stop(_ generations: [Generation], at revision: Int64) -> (Int, Int?) {
    var number = 0
    while number < generations.count - 1 && generations[number].revisions.last!.main < revision {
      number += 1
    }
    return (number, generations[number].revisions.lastIndex { $0.main <= revision })
  }

  /// The revisions that went.
  mutating func compact(to revision: Int64) -> [Revision] {
    var dropped: [Revision] = []
    for at in keys.indices {
      let before = keys[at].generations.flatMap(\.revisions)
      let (number, place) = stop(keys[at].generations, at: revision)
      if let place { keys[at].generations[number].revisions.removeFirst(place) }
      keys[at].generations.removeFirst(number)
      let after = keys[at].generations.flatMap(\.revisions)
      dropped += before.prefix(before.count - after.count)
    }
    keys.removeAll { $0.generations.count == 1 && $0.generations[0].revisions.isEmpty }
    return dropped
  }

  func kept(at revision: Int64) -> [Revision] {
    keys.compactMap { held in
      let (number, place) = stop(held.generations, at: revision)
      guard let place else { return nil }
      let revisions = held.generations[number].revisions
      if place == revisions.count - 1 && number != held.generations.count - 1 { return nil }
      return revisions[place]
    }
  }
}
