import Basics
import Peers
import Raft
import Testing

func append(
  _ term: UInt64, after previous: UInt64, _ previousTerm: UInt64, count: Int, commit: UInt64,
  bytes: Int = 10
) -> Message {
  let entries = (0..<count).map { place in
    Entry(
      term: Term(term), index: LogIndex(previous + 1 + UInt64(place)), kind: .normal,
      data: Array(repeating: UInt8(place & 0xff), count: bytes))
  }
  return Message(
    from: NodeID(1), to: NodeID(2), term: Term(term),
    body: .append(
      .init(
        previousIndex: LogIndex(previous), previousTerm: Term(previousTerm),
        commit: LogIndex(commit), entries: entries)))
}

/// Appends as a leader sends them: a probe, a stream, an empty one, a new term, a step back.
let appends = [
  append(2, after: 0, 0, count: 0, commit: 0), append(2, after: 0, 0, count: 3, commit: 1),
  append(2, after: 3, 2, count: 1, commit: 3), append(2, after: 4, 2, count: 0, commit: 4),
  append(2, after: 4, 2, count: 200, commit: 4, bytes: 3000),
  append(2, after: 204, 2, count: 1, commit: 204, bytes: 0),
  append(5, after: 205, 2, count: 2, commit: 205), append(5, after: 207, 5, count: 2, commit: 207),
  append(5, after: 100, 2, count: 2, commit: 207),
]

func number(_ value: UInt64) -> [UInt8] {
  (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * UInt64($0))) }
}

@Suite struct StreamTests {
  func written() -> [UInt8] {
    var writer = AppendWriter()
    var bytes: [UInt8] = []
    for message in appends {
      writer.append(message, to: &bytes)
      AppendWriter.appendHeartbeat(to: &bytes)
    }
    return bytes
  }

  func read(_ bytes: [UInt8], step: Int = .max) throws(WireError) -> [Message] {
    var reader = AppendReader(local: NodeID(2), remote: NodeID(1))
    var messages: [Message] = []
    var at = 0
    while at < bytes.count {
      let end = at + min(step, bytes.count - at)
      try reader.receive(Array(bytes[at..<end]).rawSpan, into: &messages)
      at = end
    }
    return messages
  }

  @Test(arguments: [1, 7, 4096, Int.max])
  func `appends come out as they went in however the bytes are cut`(step: Int) throws {
    #expect(try read(written(), step: step) == appends)
  }

  @Test func `what goes on where the last append ended leaves its frame out`() {
    var writer = AppendWriter()
    var first: [UInt8] = []
    writer.append(appends[1], to: &first)
    #expect(first[0] == 2)
    var second: [UInt8] = []
    writer.append(append(2, after: 3, 2, count: 1, commit: 3, bytes: 1), to: &second)
    // Type, entries, length, raftpb.Entry {type 0, term 2, index 4, data}, commit.
    #expect(
      second
        == [1] + number(1) + number(9) + [0x08, 0, 0x10, 2, 0x18, 4, 0x22, 1, 0] + number(3))
  }

  @Test(
    arguments: [
      ([9], WireError.unknownFrame(9)), ([1] + number(1 << 40), .tooManyEntries),
      ([2] + number(1 << 40), .frameTooLarge), ([1] + number(1) + number(.max), .frameTooLarge),
      ([1] + number(1) + number(2) + [0xff, 0xff], .malformedMessage),
      ([2] + number(2) + [0xff, 0xff], .malformedMessage),
      ([1] + number(1) + number(6) + [0x08, 0, 0x10, 2, 0x18, 9] + number(3), .entryOutOfOrder),
    ] as [([UInt8], WireError)])
  func `what is no append ends the stream`(bytes: [UInt8], error: WireError) {
    #expect(throws: error) { try read(bytes) }
  }

  @Test func `a declared length costs nothing before its bytes come`() throws {
    var reader = AppendReader(local: NodeID(2), remote: NodeID(1))
    var messages: [Message] = []
    let start = [2] + number(500 << 20) + [1, 2, 3]
    try reader.receive(start.rawSpan, into: &messages)
    #expect(reader.heldBytes == 3)
  }

  @Test func `damaged streams are refused or read as others, never worse`() {
    let bytes = Array(written()[..<5000])
    var random = Random(seed: 3)
    for _ in 0..<300 {
      var damaged = bytes
      damaged[random.next(below: 200)] = UInt8(truncatingIfNeeded: random.next())
      _ = try? read(damaged)
    }
  }

  @Test(arguments: [1, 13, Int.max])
  func `messages come out as they went in however the bytes are cut`(step: Int) throws {
    var bytes: [UInt8] = []
    for message in samples {
      MessageWriter.append(message, to: &bytes)
      MessageWriter.appendHeartbeat(to: &bytes)
    }
    var reader = MessageReader()
    var messages: [Message] = []
    var at = 0
    while at < bytes.count {
      let end = at + min(step, bytes.count - at)
      try reader.receive(Array(bytes[at..<end]).rawSpan, into: &messages)
      at = end
    }
    #expect(messages == samples)
    #expect(reader.heldBytes == 0)
  }

  @Test func `a message longer than the limit is refused by its length alone`() {
    var reader = MessageReader()
    var messages: [Message] = []
    #expect(throws: WireError.frameTooLarge) {
      try reader.receive(number(1 << 32).rawSpan, into: &messages)
    }
  }
}
