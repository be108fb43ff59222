internal import Basics
internal import Raft

/// One record of the log and its frame: eight bytes of length, little-endian, the top byte telling
/// the padding to eight; then walpb.Record {type=1, crc=2, data=3}. The checksum of a record runs
/// on from the one before it. etcd: server/wal.
enum RecordType: UInt64 {
  case metadata = 1
  case entry, state, checksum, snapshot
}

struct Record {
  var type: RecordType
  var checksum: UInt32
  /// Stretch of the file's bytes.
  var data: Range<Int>
  /// Where the frame begins and the next one would.
  var frame: Range<Int>
}

enum Frame {
  /// Largest record that is believed: far above any request, and below what would hurt.
  static let bytesMax = 512 << 20
  /// What a disk writes whole or not at all. etcd: `minSectorSize`.
  static let sectorBytes = 512

  /// Appends a record; `checksum` moves on over its data. `body` appends the data. Allocates
  /// nothing when `bytes` has room.
  static func append(
    _ type: RecordType, checksum: inout UInt32, to bytes: inout [UInt8],
    _ body: (inout [UInt8]) -> Void
  ) {
    let start = bytes.count
    // Room for the frame, type, checksum and the data's length; what is too much goes again.
    let room = 8 + 2 + 6 + 1 + 10
    for _ in 0..<room { bytes.append(0) }
    body(&bytes)
    let count = bytes.count - start - room
    checksum = crc32c(bytes.rawSpan.extracting(start + room..<bytes.count), seed: checksum)
    var fields = 3 + Proto.size(UInt64(checksum))
    if count > 0 { fields += 1 + Proto.size(UInt64(count)) }
    let gap = room - 8 - fields
    bytes.removeSubrange(start + 8..<start + 8 + gap)
    let size = fields + count
    let padding = (8 - size % 8) % 8
    var length = UInt64(size)
    if padding > 0 { length |= UInt64(0x80 | padding) << 56 }
    for i in 0..<8 { bytes[start + i] = UInt8(truncatingIfNeeded: length >> (8 * UInt64(i))) }
    bytes[start + 8] = 0x08
    bytes[start + 9] = UInt8(type.rawValue)
    bytes[start + 10] = 0x10
    var at = Proto.put(UInt64(checksum), in: &bytes, at: start + 11)
    if count > 0 {
      bytes[at] = 0x1a
      at = Proto.put(UInt64(count), in: &bytes, at: at + 1)
    }
    precondition(at == start + 8 + fields)
    for _ in 0..<padding { bytes.append(0) }
  }

  enum Step {
    case record(Record)
    /// Nothing more: the end of the file, or zeros.
    case end
    /// The bytes stop inside a record, or a sector of it was never written.
    case torn
    case broken(String)
    case mismatch(recorded: UInt32, computed: UInt32)
  }

  /// Reads the record at `offset`, its checksum running on from `checksum`.
  static func read(_ bytes: RawSpan, at offset: Int, checksum: UInt32) -> Step {
    let left = bytes.byteCount - offset
    if left == 0 { return .end }
    guard left >= 8 else { return .torn }
    var length: UInt64 = 0
    for i in 0..<8 { length |= UInt64(bytes[offset + i]) << (8 * UInt64(i)) }
    if length == 0 {
      // A write begins with its length: what follows one that is missing cannot share its sector.
      let sector = min(bytes.byteCount, (offset / sectorBytes + 1) * sectorBytes)
      return isZero(bytes, offset..<sector) ? .end : .broken("data follows a length of 0")
    }
    let size = Int(length & 0x00ff_ffff_ffff_ffff)
    let padding = length >> 63 == 1 ? Int(length >> 56 & 7) : 0
    let start = offset + 8
    let top = padding > 0 ? UInt64(0x80 | padding) : 0
    guard size % 8 == (8 - padding) % 8, length >> 56 == top else {
      return .broken("the record has no possible length")
    }
    guard size <= bytesMax, size <= left - 8, size + padding <= left - 8 else {
      return lies(bytes, start, size, checksum) ?? .torn
    }
    let frame = start..<start + size + padding
    guard let record = parse(bytes, start..<start + size), record.data.upperBound == start + size
    else {
      if let lie = lies(bytes, start, size, checksum) { return lie }
      return isTorn(bytes, frame) ? .torn : .broken("the record cannot be read")
    }
    // A checksum record says where the chain goes on; its reader holds it against the chain.
    if record.type != .checksum {
      let computed = crc32c(bytes.extracting(record.data), seed: checksum)
      guard computed == record.checksum else {
        if isTorn(bytes, frame) { return .torn }
        return .mismatch(recorded: record.checksum, computed: computed)
      }
    }
    var whole = record
    whole.frame = offset..<frame.upperBound
    return .record(whole)
  }

  /// A record that is whole by its own fields cannot be torn: if it has another size than its
  /// frame, the frame's length was changed.
  private static func lies(
    _ bytes: RawSpan, _ start: Int, _ size: Int, _ checksum: UInt32
  ) -> Step? {
    guard let record = parse(bytes, start..<bytes.byteCount), record.type != .checksum,
      !record.data.isEmpty, record.data.upperBound - start != size,
      crc32c(bytes.extracting(record.data), seed: checksum) == record.checksum
    else { return nil }
    return .broken("the record's length does not match the record")
  }

  /// Reads the fields in the one order in which they are written, up to the data's end.
  private static func parse(_ bytes: RawSpan, _ range: Range<Int>) -> Record? {
    var reader = Proto.Reader(bytes, range)
    guard case .number(1, let number)? = reader.next(), let type = RecordType(rawValue: number),
      case .number(2, let sum)? = reader.next(), let checksum = UInt32(exactly: sum)
    else { return nil }
    var data = reader.position..<reader.position
    if type != .checksum, reader.position < range.upperBound {
      guard case .bytes(3, let found)? = reader.next() else { return nil }
      data = found
    }
    return Record(type: type, checksum: checksum, data: data, frame: data)
  }

  /// etcd: a sector of the record that holds only zeros was not written when power went.
  private static func isTorn(_ bytes: RawSpan, _ frame: Range<Int>) -> Bool {
    var at = frame.lowerBound
    while at < frame.upperBound {
      let end = min(frame.upperBound, (at / sectorBytes + 1) * sectorBytes)
      if isZero(bytes, at..<end) { return true }
      at = end
    }
    return false
  }

  private static func isZero(_ bytes: RawSpan, _ range: Range<Int>) -> Bool {
    for i in range where bytes[i] != 0 { return false }
    return true
  }
}
