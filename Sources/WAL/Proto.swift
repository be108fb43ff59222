internal import Basics
internal import Raft

/// The few protobuf messages that the log and snapshot files are made of (raftpb, walpb, snappb),
/// written as gogo-protobuf writes them: required fields always.
enum Proto {
  enum Field {
    case number(UInt64, UInt64)
    case bytes(UInt64, Range<Int>)
  }

  /// Walks over the fields of a message; nil at its end and at what cannot be read.
  struct Reader: ~Escapable {
    private let bytes: RawSpan
    private var at: Int
    private let end: Int
    private(set) var isWhole = true

    /// Where the next field begins.
    var position: Int { at }

    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, _ range: Range<Int>) {
      self.bytes = bytes
      at = range.lowerBound
      end = range.upperBound
    }

    mutating func next() -> Field? {
      while at < end {
        guard let tag = varint() else { return fail() }
        switch tag & 7 {
        case 0:
          guard let value = varint() else { return fail() }
          return .number(tag >> 3, value)
        case 2:
          guard let count = varint(), count <= UInt64(end - at) else { return fail() }
          let start = at
          at += Int(count)
          return .bytes(tag >> 3, start..<at)
        case 1: at += 8
        case 5: at += 4
        default: return fail()
        }
        if at > end { return fail() }
      }
      return nil
    }

    private mutating func fail() -> Field? {
      isWhole = false
      return nil
    }

    private mutating func varint() -> UInt64? {
      var value: UInt64 = 0
      var shift: UInt64 = 0
      while at < end, shift < 70 {
        let byte = bytes[at]
        at += 1
        value |= UInt64(byte & 0x7f) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
      return nil
    }
  }

  static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  /// How many bytes `append` writes for a value.
  static func size(_ value: UInt64) -> Int {
    max(1, (UInt64.bitWidth - value.leadingZeroBitCount + 6) / 7)
  }

  /// Writes a value over bytes that are there; returns where it ends.
  static func put(_ value: UInt64, in bytes: inout [UInt8], at place: Int) -> Int {
    var rest = value
    var at = place
    while rest >= 0x80 {
      bytes[at] = UInt8(truncatingIfNeeded: rest) | 0x80
      rest >>= 7
      at += 1
    }
    bytes[at] = UInt8(rest)
    return at + 1
  }

  static func append(_ tag: UInt8, _ value: UInt64, to bytes: inout [UInt8]) {
    bytes.append(tag)
    append(value, to: &bytes)
  }

  static func append(_ tag: UInt8, _ data: [UInt8], to bytes: inout [UInt8]) {
    append(tag, UInt64(data.count), to: &bytes)
    bytes.append(contentsOf: data)
  }

  static func append(_ entry: Entry, to bytes: inout [UInt8]) {
    append(0x08, UInt64(entry.kind.rawValue), to: &bytes)
    append(0x10, entry.term.rawValue, to: &bytes)
    append(0x18, entry.index.rawValue, to: &bytes)
    if !entry.data.isEmpty { append(0x22, entry.data, to: &bytes) }
  }

  static func entry(_ bytes: RawSpan, _ range: Range<Int>) -> Entry? {
    var reader = Reader(bytes, range)
    var entry = Entry(term: .zero, index: .zero, kind: .normal, data: [])
    while let field = reader.next() {
      switch field {
      case .number(1, let value):
        guard let kind = UInt8(exactly: value).flatMap(EntryKind.init) else { return nil }
        entry.kind = kind
      case .number(2, let value): entry.term = Term(value)
      case .number(3, let value): entry.index = LogIndex(value)
      case .bytes(4, let range): entry.data = bytes.extracting(range).copied()
      default: return nil
      }
    }
    // A change of the members is never empty; a hard state taken for an entry would look so.
    guard reader.isWhole, entry.kind != .confChange || !entry.data.isEmpty else { return nil }
    return entry
  }

  static func append(_ state: HardState, to bytes: inout [UInt8]) {
    append(0x08, state.term.rawValue, to: &bytes)
    append(0x10, state.vote.rawValue, to: &bytes)
    append(0x18, state.commit.rawValue, to: &bytes)
  }

  static func hardState(_ bytes: RawSpan, _ range: Range<Int>) -> HardState? {
    var reader = Reader(bytes, range)
    var state = HardState.empty
    while let field = reader.next() {
      switch field {
      case .number(1, let value): state.term = Term(value)
      case .number(2, let value): state.vote = NodeID(value)
      case .number(3, let value): state.commit = LogIndex(value)
      default: return nil
      }
    }
    return reader.isWhole ? state : nil
  }

  static func append(_ state: ConfState, to bytes: inout [UInt8]) {
    for id in state.voters { append(0x08, id.rawValue, to: &bytes) }
    for id in state.learners { append(0x10, id.rawValue, to: &bytes) }
    for id in state.votersOutgoing { append(0x18, id.rawValue, to: &bytes) }
    for id in state.learnersNext { append(0x20, id.rawValue, to: &bytes) }
    append(0x28, state.autoLeave ? 1 : 0, to: &bytes)
  }

  static func confState(_ bytes: RawSpan, _ range: Range<Int>) -> ConfState? {
    var reader = Reader(bytes, range)
    var lists: [[NodeID]] = [[], [], [], []]
    var autoLeave = false
    while let field = reader.next() {
      switch field {
      case .number(let number, let value) where number >= 1 && number <= 4:
        lists[Int(number) - 1].append(NodeID(value))
      case .number(5, let value): autoLeave = value != 0
      default: break
      }
    }
    guard reader.isWhole else { return nil }
    return ConfState(
      voters: lists[0], learners: lists[1], votersOutgoing: lists[2], learnersNext: lists[3],
      autoLeave: autoLeave)
  }
}
