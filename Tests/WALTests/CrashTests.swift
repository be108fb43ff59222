import Basics
import Raft
import Simulator
import Testing
import WAL

/// What a writer knows of its log: what it was promised, and what it asked for beyond that.
private struct History {
  var synced: [Entry] = []
  var asked: [Entry] = []
  var syncedState = HardState.empty

  /// Whether `found` holds all that was synced, and nothing that was not asked for.
  func allows(_ found: Recovered) -> Bool {
    found.entries.count >= synced.count && found.entries.count <= asked.count
      && found.entries.elementsEqual(asked.prefix(found.entries.count))
      && found.hardState.commit >= syncedState.commit
  }
}

/// Appends batches of one to four entries, and syncs each, until something fails.
private func write(
  _ log: inout Log<FaultyDisk>, _ history: inout History, batches: Int, _ random: inout Random
) throws {
  for _ in 0..<batches {
    let first = UInt64(history.asked.count + 1)
    let batch = (0...UInt64(random.next(below: 4))).map {
      entry(first + $0, 1, String(repeating: "\(first + $0).", count: random.next(below: 300)))
    }
    history.asked += batch
    let state = state(1, first - 1)
    try log.append(batch, state)
    try log.sync()
    history.synced = history.asked
    history.syncedState = state
  }
}

@Suite struct CrashTests {
  @Test func `whatever an unsynced batch left, the synced ones are there`() throws {
    var repairs = 0
    for seed in 0..<100 as Range<UInt64> {
      var random = Random(seed: seed)
      let disk = try disk()
      var history = History()
      do {
        var log = try create(disk, segmentBytes: 6000)
        try write(&log, &history, batches: random.next(below: 12), &random)
        // One more that power loss meets before its sync.
        let left = history
        disk.failingCall = disk.calls + 2 + random.next(below: 3)
        try? write(&log, &history, batches: 1, &random)
        history.synced = left.synced
        history.syncedState = left.syncedState
      }
      disk.crash(.byChance(random))
      var recovered = Recovered()
      var log = try open(disk, &recovered, at: .none)
      #expect(history.allows(recovered), "seed \(seed)")
      if recovered.repair != nil { repairs += 1 }
      history = History(synced: recovered.entries, asked: recovered.entries)
      try write(&log, &history, batches: 3, &random)
      disk.crash(.nothing)
      #expect(history.allows(try recover(disk)), "seed \(seed), second time")
    }
    #expect(repairs > 5)
  }

  @Test func `a log cut at any byte gives the records before it`() throws {
    let disk = try disk()
    var log = try create(disk)
    for i in 1...12 as ClosedRange<UInt64> {
      try log.append([entry(i, 1, String(repeating: "y", count: Int(i) * 5))], nil)
      try log.sync()
    }
    let file = disk.contents(firstFile)
    let used = file.count - file.reversed().prefix { $0 == 0 }.count
    for cut in headBytes..<used {
      let copy = disk.copy()
      copy.set(firstFile, Array(file[..<cut]))
      var recovered = Recovered()
      var log = try open(copy, &recovered, at: .none)
      let count = recovered.entries.count
      #expect(recovered.entries.elementsEqual(try recover(disk).entries.prefix(count)))
      try log.append([entry(UInt64(count + 1), 1, "new")], nil)
      try log.sync()
      copy.crash(.nothing)
      #expect(try recover(copy).entries.count == count + 1)
      if recovered.repair != nil {
        #expect(copy.contents(firstFile + ".broken").count <= cut)
      }
    }
  }

  @Test func `the first bytes of an unsynced batch give its first records`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...3), nil)
    try log.sync()
    let written = log.bytesWritten
    try log.append(entries(4...60), nil)
    try log.sync()
    var last = 3
    for sectors in 0...(log.bytesWritten - written) / 512 {
      let copy = disk.copy()
      // The rest of the file stays as it was prepared: zeros.
      var file = copy.contents(firstFile)
      let start = headBytes + written
      let cut = min(file.count, (start / 512 + sectors) * 512)
      if cut < start { continue }
      for i in cut..<file.count { file[i] = 0 }
      copy.set(firstFile, file)
      let count = try recover(copy).entries.count
      #expect(count >= last && count <= 60)
      last = count
    }
    #expect(last > 50)
  }

  @Test func `when any call fails, what was synced is there and nothing more is taken`() throws {
    var call = 1
    var finished = false
    while !finished {
      for mode in 0..<3 {
        var random = Random(seed: 1)
        let disk = try disk()
        var history = History()
        disk.failingCall = disk.calls + call
        do {
          var log = try create(disk, segmentBytes: 1500)
          do {
            try write(&log, &history, batches: 8, &random)
            finished = true
          } catch {
            #expect(throws: WALError.failed) { try log.append([entry(1000)], nil) }
            #expect(throws: WALError.failed) { try log.sync() }
            #expect(throws: WALError.failed) { try log.save(marker(1), ConfState(voters: [])) }
          }
        } catch {}
        disk.crash([.everything, .nothing, .byChance(Random(seed: UInt64(call)))][mode])
        do {
          #expect(history.allows(try recover(disk)), "call \(call), mode \(mode)")
        } catch {
          guard case .disk(let why) = error, why.isMissing else { throw error }
          // The log never came to be; it can be made now.
          #expect(history.synced.isEmpty)
          _ = try create(disk)
          _ = try recover(disk)
        }
      }
      call += 1
    }
    #expect(call > 30)
  }

  @Test func `what a log gives after a kill survives power loss`() throws {
    for call in 1...60 {
      var random = Random(seed: 2)
      let disk = try disk()
      var history = History()
      disk.failingCall = disk.calls + call
      do {
        var log = try create(disk, segmentBytes: 1500)
        try? write(&log, &history, batches: 8, &random)
      } catch {
        continue
      }
      disk.kill()
      let found = try recover(disk)
      #expect(history.allows(found))
      disk.crash(.nothing)
      #expect(try recover(disk).entries == found.entries, "call \(call)")
    }
  }

  @Test func `when any call of opening fails, the next opening succeeds`() throws {
    let disk = try disk()
    var random = Random(seed: 3)
    var history = History()
    var log = try create(disk, segmentBytes: 1500)
    try write(&log, &history, batches: 8, &random)
    let last = directory + "/" + (try disk.list(directory).last!)
    var torn = disk.contents(last)
    let used = torn.count - torn.reversed().prefix { $0 == 0 }.count
    torn.removeLast(torn.count - used + 9)
    var call = 0
    var finished = false
    while !finished {
      call += 1
      for mode in 0..<3 {
        let copy = disk.copy()
        copy.set(last, torn)
        copy.failingCall = call
        do {
          _ = try recover(copy)
          finished = true
        } catch {
          #expect(copy.openCount == 0)
        }
        copy.crash([.everything, .nothing, .byChance(Random(seed: UInt64(call)))][mode])
        let found = try recover(copy).entries
        #expect(found.elementsEqual(history.asked.prefix(found.count)))
        #expect(found.count >= history.asked.count - 4)
      }
    }
    #expect(call > 5)
  }

  @Test func `a full disk loses nothing that was synced`() throws {
    for room in stride(from: 0, to: 9000, by: 97) {
      var random = Random(seed: 5)
      let disk = try disk()
      var history = History()
      var log = try create(disk, segmentBytes: 3000)
      disk.capacity = 20_000 + room
      #expect { try write(&log, &history, batches: 10_000, &random) } throws: { error in
        guard case .disk(let error)? = error as? WALError else { return false }
        return error.isFull
      }
      disk.crash(.everything)
      let recovered = try recover(disk)
      #expect(history.allows(recovered), "room for \(room)")
    }
  }
}

@Suite struct CorruptionTests {
  /// A log of two segments, all of it synced and the end of the last one cut to what is used.
  private func twoSegments() throws -> (disk: FaultyDisk, names: [String]) {
    let disk = try disk()
    var log = try create(disk, segmentBytes: 400)
    for i in 1...12 as ClosedRange<UInt64> {
      try log.append([entry(i, 1, i % 5 == 0 ? "" : "value \(i)")], state(1, i - 1))
      try log.sync()
    }
    return (disk, try disk.list(directory).map { directory + "/" + $0 })
  }

  private func place(_ error: WALError) -> (file: String, offset: Int) {
    switch error {
    case .corrupt(let file, let offset, _): (file, offset)
    case .checksum(let file, let offset, _, _): (file, offset)
    default: ("", -1)
    }
  }

  @Test func `a bit that flipped anywhere is found, and its place is told`() throws {
    let (disk, names) = try twoSegments()
    #expect(names.count >= 2)
    let whole = try recover(disk)
    for name in names {
      let file = disk.contents(name)
      let used = file.count - file.reversed().prefix { $0 == 0 }.count
      for offset in 0..<used {
        for bit in [offset % 8] {
          let copy = disk.copy()
          var damaged = file
          damaged[offset] ^= 1 << UInt8(bit)
          copy.set(name, damaged)
          do {
            let found = try recover(copy)
            // Padding means nothing, a vote is not checked by anything but its sum.
            #expect(found.entries == whole.entries, "\(name) \(offset) bit \(bit)")
            #expect(found.hardState == whole.hardState, "\(name) \(offset) bit \(bit)")
          } catch {
            let (file, place) = place(error)
            #expect(names.contains(file), "\(error)")
            // A changed kind of record may only show at the next one.
            #expect(file > name || (file == name && place <= offset + 80), "\(error)")
          }
        }
      }
    }
  }

  @Test func `a sum that does not match is told with both values`() throws {
    let (disk, names) = try twoSegments()
    var file = disk.contents(names[0])
    let damaged = bytes("value 3")
    let place = file.indices.first { file[$0...].starts(with: damaged) }!
    file[place] ^= 4
    disk.set(names[0], file)
    #expect { try recover(disk) } throws: { error in
      guard case .checksum(names[0], let offset, let recorded, let computed)? = error as? WALError
      else { return false }
      return offset > place - 48 && offset < place && recorded != computed
        && (error as? WALError)?.text.contains("at offset \(offset)") == true
    }
  }

  @Test func `a torn record in the middle of the log is refused`() throws {
    let (disk, names) = try twoSegments()
    disk.set(names[0], Array(disk.contents(names[0]).dropLast(5)))
    #expect { try recover(disk) } throws: { error in
      guard case .corrupt(names[0], _, let why)? = error as? WALError else { return false }
      return why == "the file ends inside a record"
    }
  }

  @Test func `a record that was never written before others of its batch ends the log`() throws {
    let disk = try disk()
    var log = try create(disk)
    try log.append(entries(1...3), nil)
    try log.sync()
    let start = headBytes + log.bytesWritten
    try log.append([entry(4, 1, String(repeating: "z", count: 3000)), entry(5)], nil)
    try log.sync()
    var file = disk.contents(firstFile)
    let sector = (start / 512 + 2) * 512
    for i in sector..<sector + 512 { file[i] = 0 }
    disk.set(firstFile, file)
    var recovered = Recovered()
    var again = try open(disk, &recovered, at: .none)
    #expect(recovered.entries == entries(1...3))
    #expect(recovered.repair != nil)
    // Nothing of the old bytes comes back behind what is written now.
    try again.append([entry(4)], nil)
    try again.sync()
    disk.crash(.nothing)
    #expect(try recover(disk).entries == entries(1...3) + [entry(4)])
  }

  @Test func `random bytes as a log never stop the process`() throws {
    var random = Random(seed: 11)
    let zeros = [UInt8](repeating: 0, count: 7)
    for _ in 0..<2000 {
      let disk = try disk()
      _ = try create(disk)
      var file = Array(disk.contents(firstFile).prefix(headBytes))
      for _ in 0..<random.next(below: 200) { file.append(UInt8(random.next(below: 256))) }
      if random.chance(1, in: 2), file.count > headBytes + 8 {
        // A length that could be one.
        file.replaceSubrange(
          headBytes..<headBytes + 8, with: [UInt8(random.next(below: 20) * 8)] + zeros)
      }
      disk.set(firstFile, file)
      _ = try? recover(disk)
    }
  }
}
