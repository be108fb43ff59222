import Basics
import Raft
import Testing

@testable import WAL

@Suite struct LogTests {
  static let path = "wal"

  func entry(_ index: UInt64, term: UInt64 = 1, _ random: inout Random) -> Entry {
    let count = random.next(below: 40)
    let data = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) | 1 }
    return Entry(term: Term(term), index: LogIndex(index), kind: .normal, data: data)
  }

  func read(_ disk: FaultyDisk) throws -> Recovered {
    var recovered = Recovered()
    _ = try Log.open(disk, directory: Self.path, recovered: &recovered) { _, _ in .none }
    return recovered
  }

  /// A log of `count` entries, one synced batch each.
  func make(_ disk: FaultyDisk, _ count: UInt64) throws -> [Entry] {
    var random = Random(seed: 3)
    var log = try Log.create(disk, directory: Self.path, metadata: [1, 2, 3])
    var entries: [Entry] = []
    for index in 1...count {
      let next = entry(index, &random)
      let state = HardState(term: Term(1), vote: NodeID(7), commit: LogIndex(min(index, 15)))
      try log.append([next], state)
      try log.sync()
      entries.append(next)
    }
    return entries
  }

  @Test func `what was appended is read back, and appending goes on`() throws {
    let disk = FaultyDisk()
    var entries = try make(disk, 20)
    var random = Random(seed: 4)
    var recovered = Recovered()
    do {
      var log = try Log.open(disk, directory: Self.path, recovered: &recovered) { _, _ in .none }
      #expect(recovered.entries == entries)
      #expect(recovered.metadata == [1, 2, 3])
      #expect(recovered.hardState.commit == LogIndex(15))
      // A new leader's entries replace those that were not committed.
      let replaced = entry(19, term: 2, &random)
      try log.append([replaced], nil)
      try log.sync()
      entries = Array(entries[..<18]) + [replaced]
    }
    #expect(try read(disk).entries == entries)
  }

  @Test func `every cut of the tail leaves a prefix`() throws {
    let disk = FaultyDisk()
    let entries = try make(disk, 4)
    let name = try #require(disk.files.keys.first)
    var whole = try #require(disk.files[name])
    let end = whole.bytes.lastIndex { $0 != 0 }! + 1
    whole.bytes.removeLast(whole.bytes.count - end - 64)
    for cut in 130..<end {
      disk.files[name]!.bytes = Array(whole.bytes[..<cut])
      let found = try read(disk).entries
      #expect(found == Array(entries[..<found.count]), "cut at \(cut)")
    }
  }

  @Test(arguments: 0..<60)
  func `after a crash everything synced is there`(seed: UInt64) throws {
    var random = Random(seed: seed)
    let disk = FaultyDisk()
    var synced: [Entry] = []
    do {
      var log = try Log.create(disk, directory: Self.path, metadata: [9])
      var pending: [Entry] = []
      for index in 1...UInt64(5 + random.next(below: 40)) {
        let next = entry(index, &random)
        try log.append([next], nil)
        pending.append(next)
        if random.chance(1, in: 3) {
          try log.sync()
          synced += pending
          pending = []
        }
      }
    }
    disk.crash(&random)
    let found = try read(disk).entries
    #expect(found.count >= synced.count)
    #expect(Array(found[..<synced.count]) == synced)
  }

  @Test func `a failing call is told, and the log is readable afterwards`() throws {
    for calls in 0..<40 {
      let disk = FaultyDisk()
      var random = Random(seed: UInt64(calls))
      var synced = 0
      var log = try Log.create(disk, directory: Self.path, metadata: [9])
      disk.callsLeft = calls
      for index in 1...20 as ClosedRange<UInt64> {
        do {
          try log.append([entry(index, &random)], nil)
          try log.sync()
          synced += 1
        } catch {
          #expect(throws: WALError.failed) { try log.sync() }
          break
        }
      }
      disk.callsLeft = nil
      #expect(try read(disk).entries.count >= synced)
    }
  }

  @Test func `the newest whole snapshot file that the log confirms is loaded`() throws {
    let disk = FaultyDisk()
    let store = SnapshotStore(disk, directory: "snap")
    func snapshot(_ index: UInt64) -> Snapshot {
      Snapshot(
        metadata: SnapshotMetadata(
          confState: ConfState(voters: [NodeID(5)]), index: LogIndex(index), term: Term(2)),
        data: [1, 2, 3, UInt8(index)])
    }
    for index in 1...3 as ClosedRange<UInt64> { try store.save(snapshot(index)) }
    let markers = [1, 2, 3].map { SnapshotMarker(index: LogIndex($0), term: Term(2)) }
    #expect(try store.loadNewest(among: markers) { _ in } == snapshot(3))
    #expect(try store.loadNewest(among: [markers[0]]) { _ in } == snapshot(1))
    let newest = try #require(disk.files.keys.sorted().last)
    disk.files[newest]!.bytes[12] ^= 8
    var broken: [String] = []
    #expect(try store.loadNewest(among: markers) { broken.append($0) } == snapshot(2))
    #expect(broken == [newest])
    #expect(disk.files[newest + ".broken"] != nil)
  }
}
