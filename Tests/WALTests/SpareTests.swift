import Basics
import Raft
import Simulator
import Testing
import WAL

@Suite struct SpareTests {
  /// Runs a log that releases, recycles and is cut short by power loss; returns how often a
  /// segment was made of a released one.
  private func life(_ seed: UInt64) throws -> Int {
    var random = Random(seed: seed)
    let disk = try disk()
    var reused = 0
    var wanted: [Entry] = []
    var start = SnapshotMarker.none
    do {
      var log = try create(disk, segmentBytes: 3000)
      var zeroedTo: (path: String, from: Int)?
      for _ in 0..<random.next(below: 120) {
        let index = UInt64(wanted.count + 1)
        wanted.append(entry(index, 1, String(repeating: "\(index)", count: random.next(below: 99))))
        let spares = try disk.list(directory).count { $0 == "spare.tmp" }
        try log.append([wanted[wanted.count - 1]], state(1, index - 1))
        try log.sync()
        if zeroedTo == nil, spares > 0, try !disk.list(directory).contains("spare.tmp") {
          reused += 1
        }
        if random.chance(1, in: 8) {
          try log.append([], state(1, index))
          start = marker(index)
          try log.save(start, ConfState(voters: [NodeID(7)]))
          if let path = try log.release(upTo: LogIndex(index), keep: 0) { zeroedTo = (path, 0) }
        }
        if let (path, from) = zeroedTo {
          zeroedTo = try Log.zeroStep(disk, path, from: from, segmentBytes: 3000).map { (path, $0) }
          if zeroedTo == nil { log.madeSpare(true) }
        }
      }
    }
    disk.crash(.byChance(random))
    let found = try recover(disk, at: start)
    #expect(found.entries == Array(wanted.dropFirst(Int(start.index.rawValue))), "seed \(seed)")
    return reused
  }

  @Test func `a recycled segment gives back nothing of its former life`() throws {
    var reused = 0
    for seed in 0..<60 as Range<UInt64> { reused += try life(seed) }
    #expect(reused > 20)
  }

  @Test func `a spare that could not be made is removed, and the log goes on without it`() throws {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 1000)
    for i in 1...50 as ClosedRange<UInt64> { try log.append([entry(i)], state(1, i)) }
    try log.save(marker(40), ConfState(voters: [NodeID(7)]))
    let path = try log.release(upTo: LogIndex(40), keep: 0)
    #expect(path == directory + "/spare.tmp")
    log.madeSpare(false)
    #expect(try !disk.list(directory).contains("spare.tmp"))
    for i in 51...99 as ClosedRange<UInt64> { try log.append([entry(i)], state(1, i)) }
    try log.sync()
    #expect(try recover(disk, at: marker(40)).entries.count == 59)
  }
}
