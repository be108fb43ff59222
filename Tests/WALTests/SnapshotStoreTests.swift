import Basics
import Raft
import Simulator
import Testing
import WAL

@Suite struct SnapshotStoreTests {
  private func snapshot(_ index: UInt64, _ term: UInt64 = 2) -> Snapshot {
    let members = ConfState(
      voters: [NodeID(1), NodeID(2)], learners: [NodeID(9)], votersOutgoing: [NodeID(3)],
      learnersNext: [NodeID(4)], autoLeave: true)
    return Snapshot(
      metadata: SnapshotMetadata(confState: members, index: LogIndex(index), term: Term(term)),
      data: bytes("state at \(index)"))
  }

  private func store(_ disk: FaultyDisk) throws -> SnapshotStore<FaultyDisk> {
    try disk.makeDirectory("/data/snap")
    try disk.syncDirectory("/data")
    return SnapshotStore(disk, directory: "/data/snap")
  }

  private func name(_ index: Int, _ term: Int = 2) -> String {
    func pad(_ value: Int) -> String {
      let digits = String(value, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }
    return "/data/snap/\(pad(term))-\(pad(index)).snap"
  }

  @Test func `a saved snapshot survives power loss whole`() throws {
    let disk = try disk()
    let store = try store(disk)
    try store.save(snapshot(300))
    disk.crash(.nothing)
    #expect(try disk.list("/data/snap") == [String(name(300).dropFirst(11))])
    let found = try store.loadNewest(among: [marker(300, 2)]) { _ in Issue.record("broken") }
    #expect(found == snapshot(300))
  }

  @Test func `the newest that the log confirms is loaded`() throws {
    let disk = try disk()
    let store = try store(disk)
    for index in [10, 20, 30] as [UInt64] { try store.save(snapshot(index)) }
    let found = try store.loadNewest(among: [.none, marker(10, 2), marker(20, 2), marker(30, 3)]) {
      _ in Issue.record("broken")
    }
    #expect(found?.metadata.index == LogIndex(20))
    #expect(try store.loadNewest(among: [.none]) { _ in } == nil)
  }

  @Test func `a broken file is put aside and an older one used`() throws {
    let disk = try disk()
    let store = try store(disk)
    for index in [10, 20] as [UInt64] { try store.save(snapshot(index)) }
    var file = disk.contents(name(20))
    file[file.count / 2] ^= 1
    disk.set(name(20), file)
    var told: [String] = []
    let found = try store.loadNewest(among: [marker(10, 2), marker(20, 2)]) { told.append($0) }
    #expect(found == snapshot(10))
    #expect(told == [name(20)])
    #expect(try disk.list("/data/snap").contains { $0.hasSuffix(".snap.broken") })
  }

  @Test func `no damage is taken for a snapshot or stops the process`() throws {
    let disk = try disk()
    let store = try store(disk)
    try store.save(snapshot(10))
    let file = disk.contents(name(10))
    for offset in file.indices {
      var flipped = file
      flipped[offset] ^= 16
      for damaged in [Array(file[..<offset]), flipped] {
        let copy = disk.copy()
        copy.set(name(10), damaged)
        let store = SnapshotStore(copy, directory: "/data/snap")
        let found = try store.loadNewest(among: [marker(10, 2)]) { _ in }
        #expect(found == nil || found == snapshot(10), "offset \(offset)")
      }
    }
  }

  @Test func `a save that fails at any call leaves what was there`() throws {
    for call in 1...6 {
      let disk = try disk()
      let store = try store(disk)
      try store.save(snapshot(10))
      disk.failingCall = disk.calls + call
      _ = try? store.save(snapshot(20))
      #expect(disk.openCount == 0)
      disk.crash(.byChance(Random(seed: UInt64(call))))
      let found = try store.loadNewest(among: [marker(10, 2), marker(20, 2)]) { _ in
        Issue.record("a file that is not whole has its name, call \(call)")
      }
      #expect(found == snapshot(10) || found == snapshot(20))
    }
  }

  @Test func `old files are removed, and what an interrupted save left`() throws {
    let disk = try disk()
    let store = try store(disk)
    for index in 1...7 as ClosedRange<UInt64> { try store.save(snapshot(index)) }
    disk.plant(name(8) + ".tmp", [1])
    try store.purge(keep: 2)
    #expect(try disk.list("/data/snap") == [6, 7].map { String(name($0).dropFirst(11)) })
  }
}
