import Basics
import Raft
import Simulator
import Testing
import WAL

@Suite struct LogTests {
  @Test func `what was synced comes back`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...3), state(1, 2))
    try log.append(entries(4...5), nil)
    try log.sync()
    disk.crash(.nothing)
    let recovered = try recover(disk)
    #expect(recovered.metadata == bytes("whose"))
    #expect(recovered.entries == entries(1...5))
    #expect(recovered.hardState == state(1, 2))
    #expect(recovered.markers == [.none])
    #expect(recovered.repair == nil)
  }

  @Test func `a batch costs one write and one sync`() throws {
    let disk = try disk()
    var log = try create(disk)
    log.zeroBytes = 1 << 16
    try log.append(entries(1...1), nil)
    try log.sync()
    let (writes, syncs) = (disk.writes, disk.syncs)
    for i in 2...50 as ClosedRange<UInt64> { try log.append([entry(i)], state(1, i - 1)) }
    try log.sync()
    #expect(disk.writes == writes + 1)
    #expect(disk.syncs == syncs + 1)
  }

  @Test func `a large batch does not wait for its sync in memory`() throws {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 64 << 20)
    let text = String(repeating: "v", count: 400_000)
    for i in 1...3 as ClosedRange<UInt64> { try log.append([entry(i, 1, text)], nil) }
    #expect(log.bytesWritten > 1_000_000)
  }

  @Test func `the bytes are those that etcd writes`() throws {
    let disk = try disk()
    var recovered = Recovered()
    disk.plant(firstFile, written351)
    var log = try open(disk, &recovered, at: .none)
    #expect(recovered.entries.map(\.index.rawValue) == [1, 2, 3])
    #expect(recovered.entries.map(\.term.rawValue) == [1, 2, 2])
    #expect(recovered.entries[0].kind == .confChange)
    #expect(recovered.hardState.commit == LogIndex(3))
    #expect(recovered.hardState.vote == NodeID(6_997_623_144_511_747_117))

    let ours = try self.disk()
    log = try Log.create(ours, directory: directory, metadata: recovered.metadata)
    let first = HardState(term: Term(1), vote: .none, commit: LogIndex(1))
    try log.append([recovered.entries[0]], first)
    try log.append([recovered.entries[1]], nil)
    try log.append([recovered.entries[2]], recovered.hardState)
    try log.sync()
    let file = ours.contents(firstFile)
    #expect(Array(file.prefix(written351.count)) == written351)
    #expect(!file.dropFirst(written351.count).contains { $0 != 0 })
  }

  private func disk() throws -> FaultyDisk { try WALTests.disk() }

  @Test func `an opened log goes on where it ended`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...3), state(1, 1))
    try log.sync()
    var recovered = Recovered()
    for round in 1...4 as ClosedRange<UInt64> {
      log = try open(disk, &recovered, at: .none)
      try log.append(entries(3 * round + 1...3 * round + 3), state(1, round))
      try log.sync()
    }
    #expect(try recover(disk).entries == entries(1...15))
  }

  @Test func `an entry replaces what was not committed from its index on`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...9), state(1, 3))
    try log.append(entries(5...6, 2), state(2, 3))
    try log.sync()
    #expect(try recover(disk).entries == entries(1...4) + entries(5...6, 2))
  }

  @Test func `entries that leave a gap, replace committed ones or go back in term are refused`()
    throws
  {
    for wrong in [entry(6), entry(2), entry(5, 0)] {
      let disk = try disk()
      var log = try create(disk)
      try log.append(entries(1...4), state(1, 3))
      try log.append([wrong], nil)
      try log.sync()
      #expect { try recover(disk) } throws: { error in
        guard case .corrupt(file: firstFile, _, let why)? = error as? WALError else {
          return false
        }
        return why.hasPrefix("entry \(wrong.index.rawValue) ")
      }
    }
  }

  @Test func `a log that lost committed entries is refused`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...4), state(1, 5))
    try log.sync()
    #expect(throws: WALError.self) { try recover(disk) }
  }

  @Test func `two files with the first number are refused`() throws {
    let disk = try disk()
    _ = try create(disk)
    disk.close(
      try disk.open(directory + "/0000000000000000-0000000000000001.wal", creates: true))
    #expect(throws: WALError.self) { try recover(disk) }
  }

  @Test func `a full segment is followed by the next, and all of them are read`() throws {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 1000)
    for i in 1...100 as ClosedRange<UInt64> {
      try log.append([entry(i)], state(1, i))
      try log.sync()
    }
    let names = try disk.list(directory)
    #expect(names.count > 3)
    #expect(names[1].hasPrefix("0000000000000001-"))
    #expect(try recover(disk).entries.count == 100)
    // Only the last one has room left.
    for name in names.dropLast() { #expect(disk.contents(directory + "/" + name).last != nil) }
    var recovered = Recovered()
    log = try open(disk, &recovered, at: .none)
    try log.append([entry(101)], nil)
    try log.sync()
    #expect(try recover(disk).entries.count == 101)
  }

  @Test func `a log opens behind a snapshot that it notes, and only there`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...9), state(1, 8))
    try log.save(marker(6), ConfState(voters: [NodeID(7)]))
    #expect(try recover(disk, at: marker(6)).entries == entries(7...9))
    #expect(try recover(disk, at: marker(6)).markers == [.none, marker(6)])
    #expect(throws: WALError.snapshotNotFound(index: 5)) { try recover(disk, at: marker(5)) }
    #expect(throws: WALError.snapshotNotFound(index: 6)) { try recover(disk, at: marker(6, 2)) }
  }

  @Test func `a snapshot beyond the commit index is not offered`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...9), state(1, 5))
    try log.save(marker(6), ConfState(voters: [NodeID(7)]))
    #expect(try recover(disk).markers == [.none])
  }

  @Test func `behind a received snapshot the log goes on`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...4), state(1, 4))
    try log.save(marker(100, 2), ConfState(voters: [NodeID(7)]))
    try log.append([], state(2, 100))
    try log.append(entries(101...103, 2), state(2, 101))
    try log.sync()
    #expect(try recover(disk, at: marker(100, 2)).entries == entries(101...103, 2))
    #expect { try recover(disk) } throws: { error in
      if case .incomplete? = error as? WALError { true } else { false }
    }
  }

  @Test func `a received snapshot with another past ends the entries that were here`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...9), state(1, 4))
    try log.save(marker(6, 2), ConfState(voters: [NodeID(7)]))
    try log.append([], state(2, 6))
    try log.sync()
    #expect(try recover(disk, at: marker(6, 2)).entries == [])
  }

  @Test func `released segments go, but not the one that an entry is in`() throws {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 1000)
    for i in 1...100 as ClosedRange<UInt64> { try log.append([entry(i)], state(1, i)) }
    try log.save(marker(60), ConfState(voters: [NodeID(7)]))
    func segments() throws -> Int { try disk.list(directory).count { $0.hasSuffix(".wal") } }
    let before = try segments()
    try log.release(upTo: LogIndex(60), keep: 1)
    let kept = try segments()
    #expect(kept < before)
    let recovered = try recover(disk, at: marker(60))
    #expect(recovered.entries.map(\.index.rawValue) == Array(61...100))
    #expect(throws: WALError.self) { try recover(disk) }
    try log.release(upTo: LogIndex(60), keep: 0)
    #expect(try segments() == kept - 1)
    #expect(try recover(disk, at: marker(60)).entries.count == 40)
  }

  @Test func `segments in front of a missing one are passed over when they are not needed`()
    throws
  {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 1000)
    for i in 1...100 as ClosedRange<UInt64> { try log.append([entry(i)], state(1, i)) }
    try log.save(marker(90), ConfState(voters: [NodeID(7)]))
    let names = try disk.list(directory)
    try disk.remove(directory + "/" + names[1])
    #expect(try recover(disk, at: marker(90)).entries.count == 10)
    #expect { try recover(disk) } throws: { error in
      guard case .incomplete(let why)? = error as? WALError else { return false }
      return why.contains("between \(names[0]) and \(names[2])")
    }
  }

  @Test func `a log is there with the entries that it begins with, or not at all`() throws {
    var made = 0
    for call in 1...40 {
      let disk = try disk()
      let before = disk.calls
      disk.failingCall = before + call
      var log: Log<FaultyDisk>?
      do {
        log = try Log.create(
          disk, directory: directory, metadata: bytes("whose"), entries: entries(1...3),
          state: state(1, 3))
      } catch {}
      let isMade = log != nil
      log = nil
      disk.crash(.byChance(Random(seed: UInt64(call))))
      guard try disk.list("/data").contains("wal") else {
        #expect(!isMade)
        continue
      }
      made += 1
      let recovered = try recover(disk)
      #expect(recovered.entries.map(\.index) == [1, 2, 3].map { LogIndex($0) })
      #expect(recovered.hardState == state(1, 3))
    }
    #expect(made > 0 && made < 40)
  }

  @Test func `files of another log and no files are refused`() throws {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 100)
    for i in 1...10 as ClosedRange<UInt64> { try log.append([entry(i)], nil) }
    try log.sync()
    let other = try self.disk()
    var second = try Log.create(other, directory: directory, metadata: bytes("other"))
    second.segmentBytes = 100
    second.zeroBytes = 512
    for i in 1...10 as ClosedRange<UInt64> { try second.append([entry(i)], nil) }
    try second.sync()
    let name = try disk.list(directory)[1]
    disk.set(directory + "/" + name, other.contents(directory + "/" + name))
    #expect(throws: WALError.self) { try recover(disk) }
    try other.makeDirectory("/empty")
    #expect(throws: WALError.self) {
      var recovered = Recovered()
      _ = try Log.open(other, directory: "/empty", recovered: &recovered) {
        (_: [UInt8], _: [SnapshotMarker]) throws(DiskError) in .none
      }
    }
  }

  @Test func `files that were being prepared are removed`() throws {
    let disk = try disk()
    _ = try create(disk)
    disk.plant(directory + "/0.tmp", [UInt8](repeating: 0, count: 100))
    _ = try recover(disk)
    #expect(try disk.list(directory).count == 1)
  }

  @Test func `when the opener does not want the log, nothing was changed`() throws {
    let disk = try disk()
    _ = try create(disk)
    disk.plant(directory + "/1.tmp", [1])
    disk.set(firstFile, Array(disk.contents(firstFile).prefix(headBytes)) + [9, 9])
    let calls = disk.writes
    var recovered = Recovered()
    #expect(throws: WALError.self) {
      _ = try Log.open(disk, directory: directory, recovered: &recovered) {
        (metadata: [UInt8], markers: [SnapshotMarker]) throws(DiskError) in
        #expect(metadata == bytes("whose") && markers == [.none])
        throw DiskError("not mine", isFull: false, isMissing: false)
      }
    }
    #expect(disk.writes == calls)
    #expect(disk.contents(firstFile).count == headBytes + 2)
    #expect(try disk.list(directory).count == 2)
    #expect(disk.openCount == 0)
  }
}
