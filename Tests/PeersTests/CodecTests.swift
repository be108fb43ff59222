import API
import Basics
import Peers
import Raft
import Testing

/// One message of every kind that members send.
let samples: [Message] = {
  let entries = (4...6).map { index in
    Entry(
      term: Term(3), index: LogIndex(UInt64(index)), kind: index == 5 ? .confChange : .normal,
      data: Array(repeating: UInt8(index), count: index * 40))
  }
  let confState = ConfState(
    voters: [NodeID(1), NodeID(9)], learners: [NodeID(4)], votersOutgoing: [NodeID(1)],
    learnersNext: [NodeID(2)], autoLeave: true)
  let metadata = SnapshotMetadata(confState: confState, index: LogIndex(90), term: Term(2))
  let bodies: [Message.Body] = [
    .append(
      .init(
        previousIndex: LogIndex(3), previousTerm: Term(2), commit: LogIndex(2), entries: entries)),
    .append(
      .init(previousIndex: LogIndex(6), previousTerm: Term(3), commit: LogIndex(6), entries: [])),
    .appendResponse(.init(index: LogIndex(6), rejection: nil)),
    .appendResponse(
      .init(index: LogIndex(6), rejection: .init(hintIndex: LogIndex(2), hintTerm: Term(1)))),
    .vote(.init(lastIndex: LogIndex(6), lastTerm: Term(3), isTransfer: true)),
    .preVote(.init(lastIndex: LogIndex(6), lastTerm: Term(3), isTransfer: false)),
    .voteResponse(isRejected: true), .preVoteResponse(isRejected: false),
    .heartbeat(commit: LogIndex(6), context: [1, 2]), .heartbeat(commit: .zero, context: []),
    .heartbeatResponse(context: [3]), .snapshot(Snapshot(metadata: metadata, data: [7, 8])),
    .timeoutNow, .transferLeader, .propose(entries), .readIndex(context: [1, 2, 3, 4, 5, 6, 7, 8]),
    .readIndexResponse(index: LogIndex(5), context: [9]),
  ]
  return bodies.map { body in
    Message(from: NodeID(0xf000_0000_0000_0001), to: NodeID(2), term: Term(3), body: body)
  }
}()

func encoded(_ message: Message) -> [UInt8] {
  var bytes: [UInt8] = []
  message.encode(into: &bytes)
  return bytes
}

func decoded(_ bytes: [UInt8]) throws(WireError) -> Message {
  try Message(decoding: bytes.rawSpan)
}

@Suite struct CodecTests {
  @Test(arguments: samples)
  func `a message survives its encoding`(message: Message) throws {
    #expect(try decoded(encoded(message)) == message)
  }

  @Test(arguments: samples)
  func `another decoder of protobuf reads the same message`(message: Message) throws {
    let bytes = encoded(message)
    let other = try RaftPB.Message(decoding: bytes.rawSpan)
    #expect(other.from == message.from.rawValue)
    #expect(other.to == 2)
    #expect(other.term == 3)
    var again: [UInt8] = []
    other.encode(into: &again)
    #expect(try decoded(again) == message)
  }

  @Test func `the heartbeat's bytes are those that etcd sends`() {
    let message = Message(
      from: NodeID(1), to: NodeID(2), term: Term(3),
      body: .heartbeat(commit: LogIndex(4), context: []))
    #expect(
      encoded(message) == [
        0x08, 8, 0x10, 2, 0x18, 1, 0x20, 3, 0x28, 0, 0x30, 0, 0x40, 4, 0x4a, 0x0a, 0x12, 0x08,
        0x0a, 0x02, 0x28, 0x00, 0x10, 0x00, 0x18, 0x00, 0x50, 0, 0x58, 0,
      ])
  }

  @Test func `types that stay inside a member are refused`() {
    for type in [0, 1, 10, 11, 12, 19, -1] as [Int32] {
      var other = RaftPB.Message()
      other.type = RaftPB.MessageType(rawValue: type)
      var bytes: [UInt8] = []
      other.encode(into: &bytes)
      #expect(throws: WireError.unknownMessage(type)) { try decoded(bytes) }
    }
  }

  @Test(arguments: samples)
  func `a message that is cut or damaged is refused or read as another, never worse`(
    message: Message
  ) {
    let bytes = encoded(message)
    for count in bytes.indices { _ = try? decoded(Array(bytes[..<count])) }
    var random = Random(seed: 7)
    for _ in 0..<500 {
      var damaged = bytes
      for _ in 0...random.next(below: 3) {
        damaged[random.next(below: damaged.count)] = UInt8(truncatingIfNeeded: random.next())
      }
      _ = try? decoded(damaged)
    }
  }
}
