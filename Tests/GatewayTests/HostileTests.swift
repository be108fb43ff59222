import API
import Basics
import Gateway
import Testing

@Suite struct HostileTests {
  @Test func `every message survives the way into JSON and back`() throws {
    var random = Random(seed: 1)
    for name in MessageShape.names {
      let shape = try #require(MessageShape(named: name))
      for _ in 0..<12 {
        let message = random.message(shape, depth: 3)
        let text = try json(message, as: name)
        #expect(try wire(text, as: name) == message, "\(name) \(text)")
      }
    }
  }

  @Test func `what protobuf-c packed survives it too`() throws {
    var random = Random(seed: 2)
    for _ in 0..<300 {
      let event = Event(
        type: .init(rawValue: Int32(random.next(below: 3))),
        kv: KeyValue(
          key: random.blob(), createRevision: Int64(bitPattern: random.number()),
          modRevision: Int64(bitPattern: random.number()), version: 1, value: random.blob(),
          lease: 3), prevKV: nil)
      let response = WatchResponse(
        header: ResponseHeader(
          clusterID: random.number(), memberID: 1, revision: 2, raftTerm: random.number()),
        watchID: Int64(bitPattern: random.number()), created: random.chance(1, in: 2),
        canceled: false, compactRevision: 0, cancelReason: random.string(), fragment: true,
        events: [event, event])
      let packed = encoded { response.encode(into: &$0) }
      let text = try json(packed, as: "etcdserverpb.WatchResponse")
      #expect(try wire(text, as: "etcdserverpb.WatchResponse") == packed)
    }
  }

  @Test func `damaged JSON is refused or read, and what is read is a message`() throws {
    var random = Random(seed: 3)
    let names = MessageShape.names.filter { $0.hasPrefix("etcdserverpb.") }
    for round in 0..<3000 {
      let name = names[round % names.count]
      let shape = try #require(MessageShape(named: name))
      var document = bytes(try json(random.message(shape, depth: 3), as: name))
      damage(&document, &random)
      guard let message = try? encodeBody(document, as: name) else { continue }
      #expect(throws: Never.self) { try json(message, as: name) }
    }
  }

  @Test func `damaged messages are refused or written as JSON`() throws {
    var random = Random(seed: 4)
    let names = MessageShape.names.filter { $0.hasPrefix("etcdserverpb.") }
    for round in 0..<3000 {
      let name = names[round % names.count]
      let shape = try #require(MessageShape(named: name))
      var message = random.message(shape, depth: 3)
      damage(&message, &random)
      guard let text = try? json(message, as: name) else { continue }
      #expect(throws: Never.self) { try JSON.parse(bytes(text)) }
    }
  }

  private func damage(_ bytes: inout [UInt8], _ random: inout Random) {
    for _ in 0...random.next(below: 3) where !bytes.isEmpty {
      let at = random.next(below: bytes.count)
      switch random.next(below: 5) {
      case 0: bytes[at] = UInt8(truncatingIfNeeded: random.next())
      case 1: bytes.removeSubrange(at...)
      case 2: bytes.insert([0x22, 0x7b, 0x5b, 0x5c, 0x30][random.next(below: 5)], at: at)
      case 3: bytes.append(contentsOf: Array(bytes[at...]))
      default: bytes.remove(at: at)
      }
    }
  }

  @Test func `nesting has an end, in JSON and in messages`() {
    let deep = String(repeating: #"{"a":["#, count: 100_000)
    #expect(throws: BadRequest(saying: "exceeded max depth")) {
      try wire(deep, as: "etcdserverpb.TxnRequest")
    }
    // Each level is two messages: an operation and its transaction.
    func nested(_ count: Int) -> String {
      String(repeating: #"{"success":[{"request_txn":"#, count: count) + "{}"
        + String(repeating: "}]}", count: count)
    }
    #expect(throws: Never.self) { try wire(nested(49), as: "etcdserverpb.TxnRequest") }
    #expect(throws: BadRequest(saying: "exceeded max depth")) {
      try wire(nested(60), as: "etcdserverpb.TxnRequest")
    }
  }

  @Test func `documents are found wherever the body is cut`() throws {
    let all = [
      #"{"a":"}]\"\\"}"#, "[1,{}]", "{}", "null", #""x{""#, #"{"b":{"c":[]}}"#, "12",
    ]
    let body = bytes(#"  {"a":"}]\"\\"}[1,{}] {}null "x{" {"b":{"c":[]}}"# + "\n12")
    var random = Random(seed: 5)
    for _ in 0..<200 {
      var documents = Documents(bytesMax: 100)
      var found: [String] = []
      var rest = body[...]
      while !rest.isEmpty {
        let piece = Array(rest.prefix(1 + random.next(below: 9)))
        rest = rest.dropFirst(piece.count)
        documents.receive(piece.rawSpan)
        while let document = try documents.next(isLast: rest.isEmpty) {
          found.append(text(document).trimmed)
        }
      }
      #expect(found == all)
    }
  }

  @Test(.timeLimit(.minutes(1)))
  func `many small documents cost no more than their bytes`() throws {
    let body = Array(repeatElement(bytes("{}"), count: 1 << 20).joined())
    var documents = Documents(bytesMax: 100)
    documents.receive(body.rawSpan)
    var count = 0
    while try documents.next(isLast: false) != nil { count += 1 }
    #expect(count == 1 << 20)
  }

  @Test func `a document without an end is not kept for ever`() throws {
    var documents = Documents(bytesMax: 100)
    let piece = bytes(#"{"key":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"#)
    documents.receive(piece.rawSpan)
    #expect(try documents.next(isLast: false) == nil)
    documents.receive(piece.rawSpan)
    #expect(throws: BadRequest.self) { try documents.next(isLast: false) }
  }
}

extension String {
  fileprivate var trimmed: String {
    String(
      self.drop { $0 == " " || $0 == "\n" }.reversed().drop { $0 == " " || $0 == "\n" }
        .reversed())
  }
}
