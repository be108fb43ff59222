internal import Basics
public import Raft

/// What a log held.
public struct Recovered: Sendable {
  public var metadata: [UInt8] = []
  public var hardState = HardState.empty
  /// Those after the snapshot that the log was opened at.
  public var entries: [Entry] = []
  /// All snapshots that the log notes and whose position is committed, as they were noted.
  public var markers: [SnapshotMarker] = []
  /// Where a torn record at the end was cut off, as text for the log; nil when there was none.
  public var repair: String?

  public init() {}
}

extension Log {
  /// Reads the log and opens it for writing behind its last whole record. A record that power
  /// loss tore at the very end is cut off, after the file was copied to `.broken`; anything else
  /// that does not fit is refused with its place. `choose` gets the log's metadata and the
  /// snapshots that it confirms, and says at which to start; when it throws, nothing was changed.
  /// What is returned is durable.
  public static func open(
    _ disk: D, directory: String, recovered: inout Recovered,
    at choose: (_ metadata: [UInt8], [SnapshotMarker]) throws(DiskError) -> SnapshotMarker
  ) throws(WALError) -> Log {
    var reading = try LogReading(disk, directory)
    try reading.readAll()
    let markers = reading.confirmedMarkers()
    let start: SnapshotMarker
    do throws(DiskError) {
      start = try choose(reading.metadata, markers)
    } catch {
      throw .disk(error)
    }
    recovered = Recovered()
    recovered.metadata = reading.metadata
    recovered.hardState = reading.state
    recovered.markers = markers
    recovered.entries = try reading.entries(after: start)
    let last: (file: Int32, size: Int)
    do throws(DiskError) {
      recovered.repair = try reading.repair()
      last = try reading.openLast()
    } catch {
      throw .disk(error)
    }
    return Log(
      disk: disk, directory: directory, metadata: reading.metadata, file: last.file,
      offset: reading.end, zeroedTo: last.size, checksum: reading.checksum,
      lastIndex: reading.lastIndex, state: reading.state, segments: reading.segments)
  }
}

/// A log while it is read: once over everything for its sums, states and where each entry lies,
/// then over the entries that are wanted.
struct LogReading<D: Disk> {
  /// Where the data of an entry lies.
  struct Place {
    var segment: Int32
    var count: UInt32
    var start: Int
    var term: Term
  }

  let disk: D
  let directory: String
  private(set) var segments: [Log<D>.Segment] = []
  private(set) var metadata: [UInt8] = []
  private(set) var state = HardState.empty
  private(set) var checksum: UInt32 = 0
  /// Where the last segment's next record goes.
  private(set) var end = 0
  private(set) var lastIndex = LogIndex.zero
  /// Of the entries from `base` + 1 on.
  private var places: [Place] = []
  private var base = LogIndex.zero
  private var markers: [SnapshotMarker] = []
  /// What is missing in front of the first segment, when it is not the first there is.
  private var gap: String?
  /// Files of segments that were being prepared, here or by etcd, when the process ended.
  private var leftovers: [String] = []
  /// Whether only zeros follow the last record.
  private var tailIsZero = true
  /// The last segment up to its last byte that is not 0, when it ends in a torn record.
  private(set) var torn: [UInt8]?

  init(_ disk: D, _ directory: String) throws(WALError) {
    self.disk = disk
    self.directory = directory
    do throws(DiskError) {
      for name in try disk.list(directory) {
        if name.hasSuffix(".tmp") {
          leftovers.append(name)
        } else if let segment = Self.segment(name) {
          segments.append(segment)
        }
      }
    } catch {
      throw .disk(error)
    }
    guard !segments.isEmpty else { throw .incomplete("\(directory): there is no log file") }
    segments.sort { $0.sequence < $1.sequence }
    // Segments before a gap were being removed; whether they were needed shows at the end.
    for i in stride(from: segments.count - 1, to: 0, by: -1)
    where segments[i - 1].sequence != segments[i].sequence &- 1 {
      gap = "the log file between \(segments[i - 1].name) and \(segments[i].name) is missing"
      segments.removeFirst(i)
      break
    }
  }

  var lastPath: String { path(segments.count - 1) }

  private func path(_ number: Int) -> String { directory + "/" + segments[number].name }

  private static func segment(_ name: String) -> Log<D>.Segment? {
    let text = Array(name.utf8)
    guard text.count == 37, text[16] == UInt8(ascii: "-"), name.hasSuffix(".wal"),
      let sequence = UInt64(name.prefix(16), radix: 16),
      let index = UInt64(name.dropFirst(17).prefix(16), radix: 16), sequence < .max
    else { return nil }
    return Log<D>.Segment(name: name, sequence: sequence, firstIndex: index)
  }

  private func bytes(of number: Int) throws(WALError) -> [UInt8] {
    do throws(DiskError) {
      let file = try disk.open(path(number), creates: false)
      defer { disk.close(file) }
      return try disk.read(file, at: 0, count: try disk.size(file))
    } catch {
      throw .disk(error)
    }
  }

  mutating func readAll() throws(WALError) {
    for number in segments.indices { try read(number) }
  }

  private mutating func read(_ number: Int) throws(WALError) {
    let file = path(number)
    let bytes = try bytes(of: number)
    var at = 0
    var count = 0
    while true {
      switch Frame.read(bytes.rawSpan, at: at, checksum: checksum) {
      case .record(let record):
        if let why = take(record, count, number, bytes.rawSpan) {
          throw .corrupt(file: file, offset: at, why: why)
        }
        at = record.frame.upperBound
        count += 1
      case .end:
        end = at
        tailIsZero = !bytes[at...].contains { $0 != 0 }
        guard count >= 2 else {
          throw .corrupt(file: file, offset: at, why: "the file has no beginning")
        }
        return
      case .torn:
        guard number == segments.count - 1, count >= 2 else {
          throw .corrupt(file: file, offset: at, why: "the file ends inside a record")
        }
        var used = bytes.count
        while used > at, bytes[used - 1] == 0 { used -= 1 }
        torn = Array(bytes[..<used])
        tailIsZero = false
        end = at
        return
      case .broken(let why):
        throw .corrupt(file: file, offset: at, why: why)
      case .mismatch(let recorded, let computed):
        throw .checksum(file: file, offset: at, recorded: recorded, computed: computed)
      }
    }
  }

  /// Takes the `count`th record of a segment; returns what is wrong with it, if anything is.
  private mutating func take(
    _ record: Record, _ count: Int, _ number: Int, _ bytes: RawSpan
  ) -> String? {
    // Each segment begins with where the chain stands and whose log it is.
    guard (record.type == .checksum) == (count == 0),
      (record.type == .metadata) == (count == 1)
    else { return "a record of another kind belongs here" }
    switch record.type {
    case .checksum:
      let isFirst = number == 0 && segments[0].sequence > 0
      if !isFirst, record.checksum != checksum {
        return "the chain of checksums stands at \(String(checksum, radix: 16)), the file goes on "
          + "from \(String(record.checksum, radix: 16))"
      }
    case .metadata:
      let found = bytes.extracting(record.data).copied()
      if number > 0, metadata != found { return "the file belongs to another log" }
      metadata = found
    case .state:
      guard let found = Proto.hardState(bytes, record.data) else { return "no hard state" }
      if found.term < state.term || found.commit < state.commit {
        return "the hard state goes back"
      }
      state = found
    case .entry:
      guard let entry = Proto.entry(bytes, record.data) else { return "no entry" }
      if let why = place(entry, record.data, number) { return why }
    case .snapshot:
      guard let marker = Self.marker(bytes, record.data) else { return "no snapshot record" }
      take(marker)
    }
    checksum = record.checksum
    return nil
  }

  /// An entry replaces those from its index on: they were never committed.
  private mutating func place(_ entry: Entry, _ data: Range<Int>, _ number: Int) -> String? {
    let index = entry.index.rawValue
    guard index > 0 else { return "entry 0" }
    guard entry.index > state.commit else {
      return "entry \(index) replaces a committed one, the commit index is "
        + "\(state.commit.rawValue)"
    }
    if places.isEmpty {
      base = LogIndex(index - 1)
    } else if index <= base.rawValue {
      places.removeAll(keepingCapacity: true)
      base = LogIndex(index - 1)
    } else if index - 1 - base.rawValue <= UInt64(places.count) {
      places.removeLast(places.count - (entry.index - base - 1))
    } else if markers.contains(where: { $0.index.rawValue == index - 1 }) {
      // The log goes on behind a snapshot that was received.
      places.removeAll(keepingCapacity: true)
      base = LogIndex(index - 1)
    } else {
      return "entry \(index) follows entry \(base.rawValue + UInt64(places.count))"
    }
    if let before = places.last, entry.term < before.term {
      return "entry \(index) has a lower term than the one before it"
    }
    places.append(
      Place(
        segment: Int32(number), count: UInt32(data.count), start: data.lowerBound,
        term: entry.term))
    lastIndex = entry.index
    return nil
  }

  /// A snapshot that another member sent ends the log that was here: what follows its position
  /// with another past was never committed.
  private mutating func take(_ marker: SnapshotMarker) {
    markers.append(marker)
    lastIndex = max(lastIndex, marker.index)
    let offset = marker.index.rawValue &- base.rawValue &- 1
    guard marker.index > base, offset < UInt64(places.count),
      places[Int(offset)].term != marker.term
    else { return }
    places.removeLast(places.count - Int(offset))
  }

  private static func marker(_ bytes: RawSpan, _ range: Range<Int>) -> SnapshotMarker? {
    var reader = Proto.Reader(bytes, range)
    var marker = SnapshotMarker.none
    while let field = reader.next() {
      switch field {
      case .number(1, let value): marker.index = LogIndex(value)
      case .number(2, let value): marker.term = Term(value)
      case .bytes(3, _): break
      default: return nil
      }
    }
    return reader.isWhole ? marker : nil
  }

  /// etcd ignores snapshot records beyond the commit index: their file may not be whole.
  func confirmedMarkers() -> [SnapshotMarker] { markers.filter { $0.index <= state.commit } }

  /// The entries after `start`, read again.
  func entries(after start: SnapshotMarker) throws(WALError) -> [Entry] {
    guard start == .none || markers.contains(start) else {
      throw .snapshotNotFound(index: start.index.rawValue)
    }
    let isWhole =
      places.isEmpty ? start != .none || segments[0].sequence == 0 : base <= start.index
    guard isWhole else {
      throw .incomplete(
        "\(directory): the log begins at entry \(base.rawValue + 1), the newest snapshot that can "
          + "be read ends at \(start.index.rawValue)" + (gap.map { "; " + $0 } ?? ""))
    }
    let last = max(start.index.rawValue, places.isEmpty ? 0 : (base + places.count).rawValue)
    guard state.commit.rawValue <= last else {
      throw .incomplete(
        "\(directory): entries up to \(state.commit.rawValue) are committed, the log ends at "
          + "\(last)")
    }
    let skip = start.index.rawValue &- base.rawValue
    guard !places.isEmpty, skip < UInt64(places.count) else { return [] }
    var entries: [Entry] = []
    entries.reserveCapacity(places.count - Int(skip))
    var current: (number: Int32, bytes: [UInt8]) = (-1, [])
    for place in places[Int(skip)...] {
      if place.segment != current.number {
        current = (place.segment, try bytes(of: Int(place.segment)))
      }
      let data = place.start..<place.start + Int(place.count)
      guard data.upperBound <= current.bytes.count,
        let entry = Proto.entry(current.bytes.rawSpan, data)
      else {
        throw .corrupt(
          file: path(Int(place.segment)), offset: place.start, why: "read differently twice")
      }
      entries.append(entry)
    }
    return entries
  }

  /// Copies the last segment to `.broken` when it ends in a torn record; what the record's bytes
  /// were is lost with the cut. Returns what was found, nil when nothing was.
  func repair() throws(DiskError) -> String? {
    guard let torn else { return nil }
    let copy = lastPath + ".broken"
    let file = try disk.open(copy, creates: true)
    defer { disk.close(file) }
    try disk.write(file, at: 0, torn.rawSpan)
    try disk.sync(file)
    return "\(lastPath): cut at offset \(end), where the last record was torn; copied to \(copy)"
  }
  /// Opens the last segment for writing behind its last record and makes everything that was read
  /// durable: a process that was killed may have written it without a sync.
  func openLast() throws(DiskError) -> (file: Int32, size: Int) {
    for name in leftovers { try disk.remove(directory + "/" + name) }
    let file = try disk.open(lastPath, creates: false)
    do throws(DiskError) {
      // What lies behind the last record must be zeros for the next reader.
      if !tailIsZero { try disk.truncate(file, to: end) }
      try disk.sync(file)
      try disk.syncDirectory(directory)
      try disk.syncDirectory(parent(directory))
      return (file, try disk.size(file))
    } catch {
      disk.close(file)
      throw error
    }
  }
}
