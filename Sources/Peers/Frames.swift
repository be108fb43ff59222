public import Basics
public import Raft

/// Bytes of a stream that have come and are not used up yet.
struct Inflow {
  private(set) var bytes: [UInt8] = []
  private(set) var start = 0

  var count: Int { bytes.count - start }

  mutating func append(_ more: RawSpan) {
    if start == bytes.count {
      bytes.removeAll(keepingCapacity: bytes.capacity <= 4 << 20)
      start = 0
    } else if start > 64 << 10, start >= count {
      bytes.removeFirst(start)
      start = 0
    }
    bytes.append(contentsOf: more)
  }

  mutating func skip(_ count: Int) {
    precondition(count <= self.count)
    start += count
  }

  /// The next eight bytes as a number, the highest first; nil when fewer have come.
  mutating func takeNumber() -> UInt64? {
    guard count >= 8 else { return nil }
    let held = bytes
    defer { start += 8 }
    return held.rawSpan.bigEndian(at: start)
  }
}

extension [UInt8] {
  /// Appends what `body` encodes behind its length in eight bytes.
  mutating func appendFramed(_ body: (inout [UInt8]) -> Void) {
    let place = count
    append(bigEndian: 0)
    body(&self)
    var length = UInt64(count - place - 8)
    for offset in stride(from: 7, through: 0, by: -1) {
      self[place + offset] = UInt8(truncatingIfNeeded: length)
      length >>= 8
    }
  }
}

/// The sign of life of a stream: a heartbeat from nobody to nobody.
private let linkHeartbeat = Message(
  from: .none, to: .none, term: .zero, body: .heartbeat(commit: .zero, context: []))

/// Writes the stream of messages: each behind its length. etcd: `messageEncoder`.
public enum MessageWriter {
  /// Appends the message behind its length.
  public static func append(_ message: Message, to bytes: inout [UInt8]) {
    bytes.appendFramed { message.encode(into: &$0) }
  }

  /// Appends a sign of life.
  public static func appendHeartbeat(to bytes: inout [UInt8]) {
    append(linkHeartbeat, to: &bytes)
  }
}

/// Reads a stream of messages from bytes as they come. etcd: `messageDecoder`.
public struct MessageReader: Sendable {
  private var inflow = Inflow()
  private var length: Int?

  public init() {}

  /// What has come and belongs to no whole message yet.
  public var heldBytes: Int { inflow.count }

  /// Takes bytes and appends the messages that have become whole; signs of life are left out.
  public mutating func receive(
    _ bytes: RawSpan, into messages: inout [Message]
  ) throws(WireError) {
    inflow.append(bytes)
    while let message = try next() {
      if message != linkHeartbeat { messages.append(message) }
    }
  }

  private mutating func next() throws(WireError) -> Message? {
    if length == nil {
      guard let declared = inflow.takeNumber() else { return nil }
      guard declared <= UInt64(PeerLimits.frameBytes) else { throw .frameTooLarge }
      length = Int(declared)
    }
    guard let count = length, inflow.count >= count else { return nil }
    let held = inflow.bytes
    let message = try Message(
      decoding: held.rawSpan.extracting(inflow.start..<inflow.start + count))
    inflow.skip(count)
    length = nil
    return message
  }
}

/// Writes a stream of appends, which leaves out what the other side knows: an append that goes
/// on where the last one ended, in its term, is entries and commit alone.
/// etcd: rafthttp/msgappv2_codec.go.
///
///     0                                                    a sign of life
///     1 | entries (8) | { length (8) | raftpb.Entry }… | commit (8)
///     2 | length (8) | raftpb.Message
public struct AppendWriter: Sendable {
  private var term = Term.zero
  private var index = LogIndex.zero

  public init() {}

  /// Appends an append; any other message is a mistake of ours.
  public mutating func append(_ message: Message, to bytes: inout [UInt8]) {
    guard case .append(let append) = message.body else {
      preconditionFailure("only appends travel on their stream")
    }
    if append.previousIndex == index, append.previousTerm == term, message.term == term {
      bytes.append(1)
      bytes.append(bigEndian: UInt64(append.entries.count))
      for entry in append.entries { bytes.appendFramed { entry.encode(into: &$0) } }
      bytes.append(bigEndian: append.commit.rawValue)
    } else {
      bytes.append(2)
      bytes.appendFramed { message.encode(into: &$0) }
      term = message.term
    }
    index = append.entries.last?.index ?? append.previousIndex
  }

  /// Appends a sign of life.
  public static func appendHeartbeat(to bytes: inout [UInt8]) { bytes.append(0) }
}

/// Reads a stream of appends from bytes as they come.
public struct AppendReader: Sendable {
  private enum Phase: Sendable {
    case type
    case entryCount
    case entryLength(left: UInt64)
    case entry(left: UInt64, length: Int)
    case commit
    case messageLength
    case message(length: Int)
  }

  private let local: NodeID
  private let remote: NodeID
  private var inflow = Inflow()
  private var phase = Phase.type
  private var term = Term.zero
  private var index = LogIndex.zero
  private var entries: [Entry] = []
  /// Bytes of the entries of the frame so far.
  private var frameBytes = 0

  public init(local: NodeID, remote: NodeID) {
    self.local = local
    self.remote = remote
  }

  /// What has come and belongs to no whole message yet.
  public var heldBytes: Int { inflow.count + frameBytes }

  /// Takes bytes and appends the messages that have become whole; signs of life are left out.
  public mutating func receive(
    _ bytes: RawSpan, into messages: inout [Message]
  ) throws(WireError) {
    inflow.append(bytes)
    while try step(&messages) {}
  }

  /// False when more bytes are needed.
  private mutating func step(_ messages: inout [Message]) throws(WireError) -> Bool {
    switch phase {
    case .type:
      guard inflow.count > 0 else { return false }
      let type = inflow.bytes[inflow.start]
      inflow.skip(1)
      switch type {
      case 0: break
      case 1: phase = .entryCount
      case 2: phase = .messageLength
      default: throw .unknownFrame(type)
      }
    case .entryCount:
      guard let count = inflow.takeNumber() else { return false }
      guard count <= UInt64(PeerLimits.frameEntries) else { throw .tooManyEntries }
      frameBytes = 0
      phase = count == 0 ? .commit : .entryLength(left: count)
    case .entryLength(let left):
      guard let length = try takeLength() else { return false }
      frameBytes += length
      guard frameBytes <= PeerLimits.frameBytes else { throw .frameTooLarge }
      phase = .entry(left: left, length: length)
    case .entry(let left, let length):
      guard inflow.count >= length else { return false }
      try takeEntry(length)
      phase = left == 1 ? .commit : .entryLength(left: left - 1)
    case .commit:
      guard let commit = inflow.takeNumber() else { return false }
      finish(LogIndex(commit), &messages)
      phase = .type
    case .messageLength:
      guard let length = try takeLength() else { return false }
      phase = .message(length: length)
    case .message(let length):
      guard inflow.count >= length else { return false }
      try takeMessage(length, &messages)
      phase = .type
    }
    return true
  }

  private mutating func takeLength() throws(WireError) -> Int? {
    guard let length = inflow.takeNumber() else { return nil }
    guard length <= UInt64(PeerLimits.frameBytes) else { throw .frameTooLarge }
    return Int(length)
  }

  private mutating func takeEntry(_ length: Int) throws(WireError) {
    let held = inflow.bytes
    let entry = try Entry(
      decoding: held.rawSpan.extracting(inflow.start..<inflow.start + length))
    inflow.skip(length)
    let next = entries.last?.index ?? index
    guard next.rawValue < .max, entry.index == next + 1 else { throw .entryOutOfOrder }
    entries.append(entry)
  }

  private mutating func finish(_ commit: LogIndex, _ messages: inout [Message]) {
    let append = Message.Append(
      previousIndex: index, previousTerm: term, commit: commit, entries: entries)
    messages.append(Message(from: remote, to: local, term: term, body: .append(append)))
    index = entries.last?.index ?? index
    entries = []
    frameBytes = 0
  }

  private mutating func takeMessage(
    _ length: Int, _ messages: inout [Message]
  ) throws(WireError) {
    let held = inflow.bytes
    let message = try Message(
      decoding: held.rawSpan.extracting(inflow.start..<inflow.start + length))
    inflow.skip(length)
    guard case .append(let append) = message.body else { throw .malformedMessage }
    term = message.term
    index = append.entries.last?.index ?? append.previousIndex
    messages.append(message)
  }
}
