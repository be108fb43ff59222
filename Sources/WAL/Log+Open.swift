internal import Basics
public import Raft

/// What a log held.
public struct Recovered: Sendable {
  public var metadata: [UInt8] = []
  public var hardState = HardState.empty
  /// Those after the snapshot that the log was opened at.
  public var entries: [Entry] = []
  /// All snapshots that the log notes and whose position is committed.
  public var markers: [SnapshotMarker] = []
  /// Where a torn record at the end was cut off, as text for the log; nil when there was none.
  public var repair: String?

  public init() {}
}

extension Log {
  /// Reads the log and opens it for writing behind its last whole record. A record that power
  /// loss tore at the very end is cut off; anything else that does not fit is refused with its
  /// place. `choose` gets the log's metadata and the snapshots that it confirms, and says at which
  /// to start; when it throws, nothing was changed.
  public static func open(
    _ disk: D, directory: String, recovered: inout Recovered,
    at choose: (_ metadata: [UInt8], [SnapshotMarker]) throws(DiskError) -> SnapshotMarker
  ) throws(WALError) -> Log {
    let segments = try list(disk, directory)
    var reading = Reading(directory: directory)
    for (number, segment) in segments.enumerated() {
      try reading.read(disk, segment, isLast: number == segments.count - 1)
    }
    try reading.confirmMarkers()
    let start: SnapshotMarker
    do throws(DiskError) {
      start = try choose(reading.recovered.metadata, reading.recovered.markers)
    } catch {
      throw .disk(error)
    }
    try reading.take(from: start)
    recovered = reading.recovered
    do throws(DiskError) {
      let path = directory + "/" + segments[segments.count - 1].name
      let file = try disk.open(path, creates: false)
      if !reading.tailIsZero {
        // What lies behind the last record must be zeros for the next reader.
        try disk.truncate(file, to: reading.end)
        try disk.sync(file)
      }
      let size = try disk.size(file)
      return Log(
        disk: disk, directory: directory, metadata: reading.recovered.metadata, file: file,
        offset: reading.end, zeroedTo: size, checksum: reading.checksum,
        lastIndex: reading.lastIndex, state: reading.recovered.hardState, segments: segments)
    } catch {
      throw .disk(error)
    }
  }

  private static func list(_ disk: D, _ directory: String) throws(WALError) -> [Segment] {
    var segments: [Segment] = []
    do throws(DiskError) {
      for name in try disk.list(directory) where name.hasSuffix(".wal") {
        let parts = name.dropLast(4).split(separator: "-")
        guard parts.count == 2, let sequence = UInt64(parts[0], radix: 16),
          let index = UInt64(parts[1], radix: 16)
        else { continue }
        segments.append(Segment(name: name, sequence: sequence, firstIndex: index))
      }
    } catch {
      throw .disk(error)
    }
    guard !segments.isEmpty else { throw .incomplete("\(directory): there is no log file") }
    for (a, b) in zip(segments, segments.dropFirst()) where b.sequence != a.sequence + 1 {
      throw .incomplete("\(directory): the log file between \(a.name) and \(b.name) is missing")
    }
    return segments
  }
}

/// A log while it is read.
private struct Reading {
  let directory: String
  var recovered = Recovered()
  var checksum: UInt32 = 0
  var end = 0
  var lastIndex = LogIndex.zero
  /// Whether only zeros follow the last record.
  var tailIsZero = true
  private var isFirstRecord = true
  /// Each with the file and offset it came from, for a message.
  private var entries: [Entry] = []
  private var base = LogIndex.zero
  private var markers: [SnapshotMarker] = []

  init(directory: String) { self.directory = directory }

  mutating func read<D: Disk>(
    _ disk: D, _ segment: Log<D>.Segment, isLast: Bool
  ) throws(WALError) {
    let path = directory + "/" + segment.name
    let bytes: [UInt8]
    do throws(DiskError) {
      let file = try disk.open(path, creates: false)
      defer { disk.close(file) }
      bytes = try disk.read(file, at: 0, count: try disk.size(file))
    } catch {
      throw .disk(error)
    }
    var at = 0
    while true {
      switch Frame.read(bytes.rawSpan, at: at, checksum: checksum) {
      case .record(let record):
        if let why = take(record, bytes.rawSpan) {
          throw .corrupt(file: path, offset: at, why: why)
        }
        at = record.frame.upperBound
      case .end:
        end = at
        tailIsZero = bytes[at...].allSatisfy { $0 == 0 }
        return
      case .torn:
        guard isLast else {
          throw .corrupt(file: path, offset: at, why: "the file ends inside a record")
        }
        recovered.repair = "\(path): cut at offset \(at), where the last record was torn"
        end = at
        tailIsZero = false
        return
      case .broken(let why):
        throw .corrupt(file: path, offset: at, why: why)
      }
    }
  }

  /// Returns what is wrong with the record, if anything is.
  private mutating func take(_ record: Record, _ bytes: RawSpan) -> String? {
    defer { isFirstRecord = false }
    if record.type == .checksum {
      if !isFirstRecord, record.checksum != checksum {
        return "the chain of checksums does not go on from the file before"
      }
      checksum = record.checksum
      return nil
    }
    checksum = record.checksum
    switch record.type {
    case .metadata:
      let found = bytes.extracting(record.data).copied()
      if !recovered.metadata.isEmpty, recovered.metadata != found {
        return "the file belongs to another log"
      }
      recovered.metadata = found
    case .state:
      guard let state = Proto.hardState(bytes, record.data) else { return "no hard state" }
      recovered.hardState = state
    case .entry:
      guard let entry = Proto.entry(bytes, record.data) else { return "no entry" }
      return add(entry)
    case .snapshot:
      guard let marker = Self.marker(bytes, record.data) else { return "no snapshot record" }
      markers.append(marker)
      lastIndex = max(lastIndex, marker.index)
    case .checksum: break
    }
    return nil
  }

  /// An entry replaces those from its index on: they were never committed.
  private mutating func add(_ entry: Entry) -> String? {
    // Types are not under the checksum: what was changed shows in what cannot follow.
    if entry.index <= recovered.hardState.commit {
      return "entry \(entry.index.rawValue) would replace one that is committed"
    }
    if entries.isEmpty { base = LogIndex(entry.index.rawValue &- 1) }
    let place = entry.index - base - 1
    if place < 0 {
      entries = [entry]
      base = LogIndex(entry.index.rawValue &- 1)
    } else if place <= entries.count {
      entries.removeLast(entries.count - place)
      entries.append(entry)
    } else if markers.contains(where: { $0.index.rawValue + 1 == entry.index.rawValue }) {
      // The log goes on behind a snapshot that was received.
      entries = [entry]
      base = LogIndex(entry.index.rawValue - 1)
    } else {
      return "entry \(entry.index.rawValue) follows \((base + entries.count).rawValue)"
    }
    lastIndex = entry.index
    return nil
  }

  private static func marker(_ bytes: RawSpan, _ range: Range<Int>) -> SnapshotMarker? {
    var reader = Proto.Reader(bytes, range)
    var marker = SnapshotMarker.none
    while let field = reader.next() {
      switch field {
      case .number(1, let value): marker.index = LogIndex(value)
      case .number(2, let value): marker.term = Term(value)
      default: break
      }
    }
    return reader.isWhole ? marker : nil
  }

  /// etcd ignores snapshot records beyond the commit index: their file may not be whole.
  mutating func confirmMarkers() throws(WALError) {
    guard recovered.hardState.commit <= lastIndex else {
      throw .incomplete(
        "\(directory): entry \(recovered.hardState.commit.rawValue) is committed, the log ends at "
          + "\(lastIndex.rawValue)")
    }
    recovered.markers = markers.filter { $0.index <= recovered.hardState.commit }
  }

  /// Leaves the entries after `start`.
  mutating func take(from start: SnapshotMarker) throws(WALError) {
    guard start == .none || markers.contains(start) else {
      throw .snapshotNotFound(index: start.index.rawValue)
    }
    let skip = start.index - base
    if entries.isEmpty || skip >= entries.count {
      recovered.entries = []
      return
    }
    guard skip >= 0 else {
      throw .incomplete(
        "\(directory): the log begins at entry \((base + 1).rawValue), the snapshot ends at "
          + "\(start.index.rawValue)")
    }
    recovered.entries = Array(entries[skip...])
  }
}
