public import Basics
public import Raft

/// Why a log cannot be read or written.
public enum WALError: Error, Equatable, Sendable {
  case disk(DiskError)
  /// File, byte offset, and what is wrong there.
  case corrupt(file: String, offset: Int, why: String)
  /// A record's data does not have the checksum that is recorded for it.
  case checksum(file: String, offset: Int, recorded: UInt32, computed: UInt32)
  /// No record of the snapshot that the log was to be opened at.
  case snapshotNotFound(index: UInt64)
  /// Files are missing or do not follow each other.
  case incomplete(String)
  /// An earlier write or sync failed; what the disk holds is unknown.
  case failed

  public var text: String {
    switch self {
    case .disk(let error): error.text
    case .corrupt(let file, let offset, let why): "\(file): at offset \(offset): \(why)"
    case .checksum(let file, let offset, let recorded, let computed):
      "\(file): at offset \(offset): the record's checksum is \(String(recorded, radix: 16)), "
        + "its data's \(String(computed, radix: 16))"
    case .snapshotNotFound(let index): "the log has no record of the snapshot at index \(index)"
    case .incomplete(let why): why
    case .failed: "an earlier write to the log failed"
    }
  }
}

/// A position that a snapshot was taken at, as the log notes it.
public struct SnapshotMarker: Hashable, Sendable {
  public var index: LogIndex
  public var term: Term
  public init(index: LogIndex, term: Term) {
    self.index = index
    self.term = term
  }
  public static let none = SnapshotMarker(index: .zero, term: .zero)
}

/// The write-ahead log in etcd's format: segments of records whose checksums form one chain.
///
/// One thread's. `append` gathers, `sync` makes one write of it; nothing is durable before. After
/// a failed write or sync everything is refused: what the disk then holds is unknown.
/// etcd: server/wal.
public struct Log<D: Disk>: ~Copyable {
  public enum Limits {
    /// Size of a segment after which the next is begun (etcd: SegmentSizeBytes).
    public static var segmentBytes: Int { 64 << 20 }
    /// Zeros are written this far ahead: a write into them changes no metadata of the file.
    public static var zeroBytes: Int { 1 << 20 }
    /// What is appended is written when it has grown to this size, whether or not a sync follows.
    public static var bufferBytes: Int { 1 << 20 }
  }

  let disk: D
  let directory: String
  let metadata: [UInt8]
  var file: Int32
  var offset: Int
  var zeroedTo: Int
  var checksum: UInt32
  var sequence: UInt64
  var lastIndex: LogIndex
  var state: HardState
  var segments: [Segment]
  /// A segment that has grown beyond this is the last to get a batch. Tests use small ones.
  public var segmentBytes = Limits.segmentBytes
  /// How far ahead of the records zeros are written.
  public var zeroBytes = Limits.zeroBytes
  private var buffer: [UInt8] = []
  private var hasFailed = false
  /// What the next segment is made of.
  var spare = Spare.none
  /// Bytes written since the log was opened.
  public private(set) var bytesWritten = 0

  struct Segment {
    var name: String
    var sequence: UInt64
    var firstIndex: UInt64
  }

  init(
    disk: D, directory: String, metadata: [UInt8], file: Int32, offset: Int, zeroedTo: Int,
    checksum: UInt32, lastIndex: LogIndex, state: HardState, segments: [Segment]
  ) {
    self.disk = disk
    self.directory = directory
    self.metadata = metadata
    self.file = file
    self.offset = offset
    self.zeroedTo = zeroedTo
    self.checksum = checksum
    self.lastIndex = lastIndex
    self.state = state
    self.segments = segments
    sequence = segments[segments.count - 1].sequence
  }

  deinit { disk.close(file) }

  /// Makes a new log in `directory`, which must not exist; `metadata` stands at the head of each
  /// segment. Done under another name first, so that a crash leaves all or nothing.
  public static func create(
    _ disk: D, directory: String, metadata: [UInt8]
  ) throws(WALError) -> Log {
    try create(disk, directory: directory, metadata: metadata, entries: [], state: .empty)
  }

  /// As above; the log begins with `entries` and `state`, and is never there without them.
  public static func create(
    _ disk: D, directory: String, metadata: [UInt8], entries: [Entry], state: HardState
  ) throws(WALError) -> Log {
    let segment = Segment(name: Self.name(0, 0), sequence: 0, firstIndex: 0)
    var bytes: [UInt8] = []
    var checksum: UInt32 = 0
    Frame.append(.checksum, checksum: &checksum, to: &bytes) { _ in }
    Frame.append(.metadata, checksum: &checksum, to: &bytes) { $0 += metadata }
    Frame.append(.snapshot, checksum: &checksum, to: &bytes) { $0 += [0x08, 0, 0x10, 0] }
    for entry in entries {
      Frame.append(.entry, checksum: &checksum, to: &bytes) { Proto.append(entry, to: &$0) }
    }
    if state != .empty {
      Frame.append(.state, checksum: &checksum, to: &bytes) { Proto.append(state, to: &$0) }
    }
    var file: Int32 = -1
    do throws(DiskError) {
      let temporary = directory + ".tmp"
      try disk.makeDirectory(temporary)
      for name in try disk.list(temporary) { try disk.remove(temporary + "/" + name) }
      file = try disk.open(temporary + "/" + segment.name, creates: true)
      try disk.write(file, at: 0, bytes.rawSpan)
      try disk.sync(file)
      try disk.syncDirectory(temporary)
      try disk.rename(temporary, to: directory)
      try disk.syncDirectory(parent(directory))
    } catch {
      if file >= 0 { disk.close(file) }
      throw .disk(error)
    }
    return Log(
      disk: disk, directory: directory, metadata: metadata, file: file, offset: bytes.count,
      zeroedTo: bytes.count, checksum: checksum, lastIndex: entries.last?.index ?? .zero,
      state: state, segments: [segment])
  }

  static func name(_ sequence: UInt64, _ index: UInt64) -> String {
    func hex(_ value: UInt64) -> String {
      let digits = String(value, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }
    return "\(hex(sequence))-\(hex(index)).wal"
  }

  // MARK: Writing

  /// Takes entries, then the hard state, to be written by the next `sync`. Writes at once what has
  /// grown large; begins the next segment when this one is full, which syncs. Allocates nothing
  /// once its buffer has grown.
  public mutating func append(_ entries: [Entry], _ newState: HardState?) throws(WALError) {
    guard !hasFailed else { throw .failed }
    for entry in entries {
      Frame.append(.entry, checksum: &checksum, to: &buffer) { Proto.append(entry, to: &$0) }
      lastIndex = entry.index
    }
    if let newState, newState != .empty {
      state = newState
      Frame.append(.state, checksum: &checksum, to: &buffer) { Proto.append(newState, to: &$0) }
    }
    if offset + buffer.count > segmentBytes {
      try flush()
      try cut()
    } else if buffer.count >= Limits.bufferBytes {
      try flush()
    }
  }

  /// Notes that a snapshot file was written for `marker`, and makes that durable.
  public mutating func save(
    _ marker: SnapshotMarker, _ confState: ConfState
  ) throws(WALError) {
    guard !hasFailed else { throw .failed }
    Frame.append(.snapshot, checksum: &checksum, to: &buffer) { bytes in
      Proto.append(0x08, marker.index.rawValue, to: &bytes)
      Proto.append(0x10, marker.term.rawValue, to: &bytes)
      var members: [UInt8] = []
      Proto.append(confState, to: &members)
      Proto.append(0x1a, members, to: &bytes)
    }
    if lastIndex < marker.index { lastIndex = marker.index }
    try sync()
  }

  /// Hands everything appended to the system, so that it outlives this process, without waiting
  /// for the disk.
  public mutating func write() throws(WALError) {
    guard !hasFailed else { throw .failed }
    try flush()
  }

  /// Makes everything appended durable: one write, one fdatasync.
  public mutating func sync() throws(WALError) {
    guard !hasFailed else { throw .failed }
    try flush()
    try attempt { [disk, file] () throws(DiskError) in try disk.sync(file) }
  }

  private mutating func flush() throws(WALError) {
    guard !buffer.isEmpty else { return }
    let end = offset + buffer.count
    if end > zeroedTo {
      let zeros = [UInt8](repeating: 0, count: end - zeroedTo + zeroBytes)
      try attempt { [disk, file, zeroedTo] () throws(DiskError) in
        try disk.write(file, at: zeroedTo, zeros.rawSpan)
      }
      zeroedTo += zeros.count
    }
    try attempt { [disk, file, offset, buffer] () throws(DiskError) in
      try disk.write(file, at: offset, buffer.rawSpan)
    }
    bytesWritten += buffer.count
    offset = end
    buffer.removeAll(keepingCapacity: buffer.capacity <= 8 << 20)
  }

  private mutating func attempt(_ body: () throws(DiskError) -> Void) throws(WALError) {
    guard !hasFailed else { throw .failed }
    do throws(DiskError) {
      try body()
    } catch {
      hasFailed = true
      throw .disk(error)
    }
  }

  /// Ends the segment and begins the next: checksum of the chain so far, metadata, hard state.
  /// The new one gets its name only when the old one is durable to its last byte.
  private mutating func cut() throws(WALError) {
    let next = Segment(
      name: Self.name(sequence + 1, lastIndex.rawValue + 1), sequence: sequence + 1,
      firstIndex: lastIndex.rawValue + 1)
    var bytes: [UInt8] = []
    var sum = checksum
    Frame.append(.checksum, checksum: &sum, to: &bytes) { _ in }
    Frame.append(.metadata, checksum: &sum, to: &bytes) { $0 += metadata }
    let state = state
    if state != .empty {
      Frame.append(.state, checksum: &sum, to: &bytes) { Proto.append(state, to: &$0) }
    }
    var opened: Int32 = -1
    var size = bytes.count
    let spare = spare
    try attempt { [disk, directory, file, offset] () throws(DiskError) in
      try disk.truncate(file, to: offset)
      try disk.sync(file)
      var temporary = directory + "/" + next.name + ".tmp"
      if case .ready(let path) = spare { temporary = path }
      opened = try disk.open(temporary, creates: !spare.isReady)
      do throws(DiskError) {
        size = max(size, try disk.size(opened))
        try disk.write(opened, at: 0, bytes.rawSpan)
        try disk.sync(opened)
        try disk.rename(temporary, to: directory + "/" + next.name)
        try disk.syncDirectory(directory)
      } catch {
        disk.close(opened)
        throw error
      }
    }
    disk.close(file)
    file = opened
    sequence = next.sequence
    segments.append(next)
    checksum = sum
    offset = bytes.count
    zeroedTo = size
    if spare.isReady { self.spare = .none }
  }
}

func parent(_ path: String) -> String {
  path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
}
