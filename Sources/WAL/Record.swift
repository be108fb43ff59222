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

  /// Appends a record; `checksum` moves on over its data. `body` appends the data.
  static func append(
    _ type: RecordType, checksum: inout UInt32, to bytes: inout [UInt8],
    _ body: (inout [UInt8]) -> Void
  ) {
    let start = bytes.count
    // Room for the frame, type, checksum and the data's length; what is too much goes again.
    let head = 8 + 2 + 6 + 1 + 10
    bytes.append(contentsOf: repeatElement(0, count: head))
    body(&bytes)
    let count = bytes.count - start - head
    checksum = crc32c(bytes.rawSpan.extracting(start + head..<bytes.count), seed: checksum)
    var fields: [UInt8] = [0x08, UInt8(type.rawValue), 0x10]
    Proto.append(UInt64(checksum), to: &fields)
    if count > 0 {
      fields.append(0x1a)
      Proto.append(UInt64(count), to: &fields)
    }
    let gap = head - 8 - fields.count
    let size = fields.count + count
    let padding = (8 - size % 8) % 8
    var length = UInt64(size)
    if padding > 0 { length |= UInt64(0x80 | padding) << 56 }
    bytes.replaceSubrange(start + 8..<start + 8 + gap + fields.count, with: fields)
    for i in 0..<8 { bytes[start + i] = UInt8(truncatingIfNeeded: length >> (8 * UInt64(i))) }
    bytes.append(contentsOf: repeatElement(0, count: padding))
  }

  enum Step {
    case record(Record)
    /// Nothing more: the end of the file, or zeros.
    case end
    /// The bytes stop inside a record, or a sector of it was never written.
    case torn
    case broken(String)
  }

  /// Reads the record at `offset`, its checksum running on from `checksum`.
  static func read(_ bytes: RawSpan, at offset: Int, checksum: UInt32) -> Step {
    let left = bytes.byteCount - offset
    if left == 0 { return .end }
    guard left >= 8 else { return .torn }
    var length: UInt64 = 0
    for i in 0..<8 { length |= UInt64(bytes[offset + i]) << (8 * UInt64(i)) }
    if length == 0 {
      // Zeros were not written yet, unless a whole record lies behind this length.
      return isWhole(bytes, offset, checksum, not: size(length)) ? lengthChanged : .end
    }
    let size = size(length)
    let padding = length >> 63 == 1 ? Int(length >> 56 & 7) : 0
    guard size <= bytesMax, size + padding <= left - 8 else {
      return isWhole(bytes, offset, checksum, not: size) ? lengthChanged : .torn
    }
    let frame = offset + 8..<offset + 8 + size + padding
    let record = parse(bytes, offset + 8..<offset + 8 + size, lenient: false)
    if let record, matches(record, bytes, checksum) {
      var whole = record
      whole.frame = offset..<frame.upperBound
      return .record(whole)
    }
    if isWhole(bytes, offset, checksum, not: size) { return lengthChanged }
    if isTorn(bytes, frame) { return .torn }
    guard let record else { return .broken("the record cannot be read") }
    return .broken(
      "the record's checksum is \(hex(record.checksum)), its data's "
        + hex(crc32c(bytes.extracting(record.data), seed: checksum)))
  }

  private static var lengthChanged: Step {
    .broken("the record's length does not match the record")
  }

  private static func size(_ length: UInt64) -> Int { Int(length & 0x00ff_ffff_ffff_ffff) }

  /// Whether the record behind the length at `offset` is whole by its own fields, and not of
  /// `size` bytes: then it is not torn, whatever the length says.
  private static func isWhole(
    _ bytes: RawSpan, _ offset: Int, _ checksum: UInt32, not size: Int
  ) -> Bool {
    let start = offset + 8
    guard let record = parse(bytes, start..<bytes.byteCount, lenient: true) else { return false }
    return record.type != .checksum && record.data.upperBound - start != size
      && matches(record, bytes, checksum)
  }

  private static func hex(_ value: UInt32) -> String { String(value, radix: 16) }

  private static func matches(_ record: Record, _ bytes: RawSpan, _ checksum: UInt32) -> Bool {
    // A checksum record says where the chain goes on; its reader holds it against the chain.
    record.type == .checksum
      || crc32c(bytes.extracting(record.data), seed: checksum) == record.checksum
  }

  /// A lenient parse ends with the data field, wherever the range ends.
  private static func parse(_ bytes: RawSpan, _ range: Range<Int>, lenient: Bool) -> Record? {
    var reader = Proto.Reader(bytes, range)
    var type: UInt64 = 0
    var checksum: UInt32 = 0
    var data = range.lowerBound..<range.lowerBound
    while let field = reader.next() {
      switch field {
      case .number(1, let value): type = value
      case .number(2, let value): checksum = UInt32(truncatingIfNeeded: value)
      case .bytes(3, let range):
        data = range
        if lenient, let type = RecordType(rawValue: type) {
          return Record(type: type, checksum: checksum, data: data, frame: data)
        }
      default: break
      }
    }
    guard reader.isWhole, let type = RecordType(rawValue: type), !lenient else { return nil }
    return Record(type: type, checksum: checksum, data: data, frame: data)
  }

  /// etcd: a sector of the record that holds only zeros was not written when power went.
  private static func isTorn(_ bytes: RawSpan, _ frame: Range<Int>) -> Bool {
    var at = frame.lowerBound
    while at < frame.upperBound {
      let end = min(frame.upperBound, (at / 512 + 1) * 512)
      var isZero = true
      for i in at..<end where bytes[i] != 0 {
        isZero = false
        break
      }
      if isZero { return true }
      at = end
    }
    return false
  }
}
