import Basics
import MVCC
import Testing

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

extension KeyIndex {
  func found(_ key: [UInt8], at revision: Int64) -> Hit? { find(key.rawSpan, at: revision) }
  func keys(_ from: [UInt8], _ to: [UInt8], at revision: Int64) -> [([UInt8], Hit)] {
    var rows: [([UInt8], Hit)] = []
    scan(from: from.rawSpan, to: to.rawSpan, at: revision) { key, hit in
      rows.append((key.copied(), hit))
      return true
    }
    return rows
  }
  func counted(_ from: [UInt8], _ to: [UInt8], at revision: Int64) -> Int {
    count(from: from.rawSpan, to: to.rawSpan, at: revision)
  }
  mutating func compacted(to revision: Int64, keysMax: Int = .max) -> [Revision] {
    var cursor = CompactionCursor()
    var gone: [Revision] = []
    while !compact(
      to: revision, resuming: &cursor, keysMax: keysMax, dropped: { at, _ in gone.append(at) })
    {}
    return gone
  }
}

@Suite struct `Key index` {
  /// Keys that are hard on prefixes, heads and order: empty, zeros, prefixes of others, long.
  static func hostileKey(_ random: inout Random) -> [UInt8] {
    switch random.next(below: 9) {
    case 0: return [UInt8](repeating: 0, count: random.next(below: 12))
    case 1: return [UInt8](repeating: 0xff, count: random.next(below: 12))
    case 2: return bytes("/registry/pods/default/") + [UInt8(random.next(below: 256))]
    case 3: return bytes("/registry/pods/default/pod-\(random.next(below: 300))")
    case 4: return (0..<random.next(below: 4)).map { _ in UInt8(random.next(below: 3)) }
    case 5:
      let count = random.chance(1, in: 100) ? 100_000 : 300
      return [UInt8](repeating: 0x61, count: count) + [UInt8(random.next(below: 4))]
    case 6: return bytes("/registry/" + String(repeating: "x", count: random.next(below: 30)))
    case 7: return (0..<random.next(below: 20)).map { _ in UInt8(random.next(below: 256)) }
    default: return bytes("k\(random.next(below: 500))")
    }
  }

  @Test(arguments: 1...8 as ClosedRange<UInt64>)
  func `any history reads as the plain rules say`(seed: UInt64) {
    var random = Random(seed: seed)
    var index = KeyIndex()
    var model = KeyIndexModel()
    var revision: Int64 = 1
    var compacted: Int64 = 0
    let few = seed % 3 == 0
    for _ in 0..<400 {
      revision += 1
      for sub in 0..<Int64(1 + random.next(below: 3)) {
        var key = Self.hostileKey(&random)
        if few { key = [UInt8(random.next(below: 9))] }
        let at = Revision(main: revision, sub: sub)
        // A transaction changes a key once.
        if model.lastRevision(key) == revision { continue }
        if random.chance(few ? 2 : 1, in: 5) {
          let was = index.tombstone(key.rawSpan, at: at)
          #expect(was == model.tombstone(key, at: at))
        } else {
          let hit = index.put(key.rawSpan, at: at)
          #expect(hit == model.put(key, at: at))
        }
      }
      if random.chance(1, in: 60) {
        compacted += Int64(random.next(below: Int(revision - compacted) + 1))
        let kept = model.kept(at: compacted)
        var same = true
        for held in model.keys {
          for each in held.generations.flatMap(\.revisions) {
            let isKept = index.isKept(each, of: held.key.rawSpan, at: compacted)
            same = same && isKept == kept.contains(each)
          }
        }
        #expect(same)
        #expect(index.keepsAny(at: compacted, with: .liveRows) == !kept.isEmpty)
        let gone = index.compacted(to: compacted, keysMax: 1 + random.next(below: 40))
        #expect(gone.sorted() == model.compact(to: compacted).sorted())
      }
      if random.chance(1, in: 40) {
        let at = compacted + Int64(random.next(below: Int(revision - compacted) + 2))
        let from = Self.hostileKey(&random)
        let to = random.chance(1, in: 3) ? [] : Self.hostileKey(&random)
        compare(index, model, from, to, at: at)
        compare(index, model, [], [], at: at)
        compare(index, model, [0], [], at: revision)
        for _ in 0..<20 {
          let key = Self.hostileKey(&random)
          #expect(index.found(key, at: at) == model.find(key, at: at))
        }
      }
    }
    compare(index, model, [], [], at: revision)
    for held in model.keys {
      _ = index.tombstone(held.key.rawSpan, at: Revision(main: revision + 1, sub: 0))
    }
    _ = index.compacted(to: revision + 2, keysMax: 7)
    #expect(index.keyCount == 0 && index.memoryBytes < 2000)
    #expect(index.keys([], [], at: 1).isEmpty)
  }

  func compare(
    _ index: borrowing KeyIndex, _ model: KeyIndexModel, _ from: [UInt8], _ to: [UInt8],
    at revision: Int64
  ) {
    let rows = index.keys(from, to, at: revision)
    let wanted = model.scan(from: from, to: to, at: revision)
    let same = rows.elementsEqual(wanted) { $0.0 == $1.key && $0.1 == $1.hit }
    #expect(same)
    let count = index.counted(from, to, at: revision)
    #expect(count == wanted.count)
  }

  /// One of each shape of split: ascending, descending, random; then all taken away again.
  @Test(arguments: [0, 1, 2])
  func `nodes split and join at every depth`(order: Int) {
    var random = Random(seed: 7)
    var numbers = Array(0..<5_000)
    if order == 1 { numbers.reverse() }
    if order == 2 { numbers.shuffle(using: &random) }
    func key(_ number: Int) -> [UInt8] { bytes("/registry/leases/\(1_000_000 + number)") }
    var index = KeyIndex()
    for (place, number) in numbers.enumerated() {
      _ = index.put(key(number).rawSpan, at: Revision(main: Int64(place + 2), sub: 0))
    }
    #expect(index.keyCount == numbers.count)
    let isWhole = index.keys([], [], at: .max).map(\.0) == numbers.sorted().map(key)
    #expect(isWhole)
    numbers.shuffle(using: &random)
    for (step, part) in numbers.enumerated() {
      let revision = Int64(10_000 + step)
      let was = index.tombstone(key(part).rawSpan, at: Revision(main: revision, sub: 0))
      #expect(was)
      if step % 1000 == 999 {
        _ = index.compacted(to: revision + 1, keysMax: 500)
        let rest = numbers[(step + 1)...].sorted()
        let isRest = index.keys([], [], at: .max).map(\.0) == rest.map(key)
        #expect(isRest)
      }
    }
  }

  @Test func `a tombstone at the compacted revision outlives it by one compaction`() {
    var index = KeyIndex()
    let key = bytes("foo")
    _ = index.put(key.rawSpan, at: Revision(main: 2, sub: 0))
    _ = index.tombstone(key.rawSpan, at: Revision(main: 5, sub: 0))
    #expect(index.compacted(to: 5) == [Revision(main: 2, sub: 0)])
    let isKept = index.isKept(Revision(main: 5, sub: 0), of: key.rawSpan, at: 5)
    #expect(!isKept)
    #expect(index.compacted(to: 6) == [Revision(main: 5, sub: 0)])
    #expect(index.keyCount == 0)
  }

  @Test func `a rebuilt index continues where the rows stop`() {
    var index = KeyIndex()
    let key = bytes("foo")
    index.restoreTombstone(key.rawSpan, at: Revision(main: 9, sub: 0))
    #expect(index.found(key, at: 9) == nil)
    index.restore(
      key.rawSpan, created: Revision(main: 11, sub: 0), modified: Revision(main: 14, sub: 1),
      version: 3)
    let hit = index.put(key.rawSpan, at: Revision(main: 20, sub: 0))
    #expect(hit.version == 4 && hit.created.main == 11)
    #expect(index.found(key, at: 15)?.version == 3)
    #expect(index.found(key, at: 13) == nil)
    #expect(index.keyCount == 1)
  }

  @Test func `keys that come between two steps of a compaction are not missed`() {
    var index = KeyIndex()
    var revision: Int64 = 1
    for number in 0..<1000 {
      for _ in 0..<2 {
        revision += 1
        _ = index.put(bytes("k\(number)").rawSpan, at: Revision(main: revision, sub: 0))
      }
    }
    let target = revision
    var cursor = KeyIndex.CompactionCursor()
    var gone = 0
    while !index.compact(
      to: target, resuming: &cursor, keysMax: 10, dropped: { _, _ in gone += 1 })
    {
      revision += 1
      _ = index.put(bytes("k\(revision)x").rawSpan, at: Revision(main: revision, sub: 0))
    }
    #expect(gone == 1000)
  }
}
