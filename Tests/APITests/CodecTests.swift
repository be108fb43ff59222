import API
import Basics
import Testing

@Suite struct CodecTests {
  @Test func `requests read the same as by protobuf-c`() throws {
    var random = Random(seed: 1)
    for _ in 0..<1500 {
      try expectSame(wire(of: random.put()), .put)
      try expectSame(wire(of: random.range()), .range)
      try expectSame(wire(of: random.deleteRange()), .deleteRange)
      try expectSame(wire(of: random.keyValue()), .keyValue)
      try expectSame(wire(of: random.entry()), .entry)
      try expectSame(wire(of: random.compaction()), .compaction)
      try expectSame(wire(of: random.watch()), .watch)
    }
    for _ in 0..<400 {
      try expectSame(wire(of: random.txn(depth: 3)), .txn)
      try expectSame(wire(of: random.message()), .message)
      try expectSame(wire(of: random.event()), .event)
    }
  }

  @Test(arguments: Subject.allCases)
  func `damaged bytes are accepted and refused as by protobuf-c`(subject: Subject) throws {
    var random = Random(seed: 2)
    var refusedByC = 0
    for _ in 0..<2500 {
      var bytes = random.wire(subject)
      random.damage(&bytes)
      if try expectSame(bytes, subject) == .refused { refusedByC += 1 }
    }
    // Tags and lengths in more than 5 bytes: etcd takes them, protobuf-c does not.
    #expect(refusedByC < 25)
  }

  @Test func `key-values and entries are written as by protobuf-c`() throws {
    var random = Random(seed: 3)
    for _ in 0..<1000 {
      let kv = wire(of: random.keyValue())
      var again: [UInt8] = []
      try KeyValueView(kv.rawSpan).encode(from: kv.rawSpan, into: &again)
      #expect(again == kv)

      let entry = random.entry()
      again = []
      let data = entry.data ?? []
      again.appendEntry(
        type: entry.type, term: Term(entry.term), index: LogIndex(entry.index),
        hasData: entry.data != nil, data: data.rawSpan)
      #expect(again == wire(of: entry))

      let message = random.message()
      #expect(spanEncoded(message) == wire(of: message))
    }
  }

  @Test func `headers are written as by protobuf-c`() {
    var random = Random(seed: 4)
    for _ in 0..<500 {
      let header = random.header()
      var bytes: [UInt8] = []
      bytes.appendHeader(headerView(header))
      #expect(bytes == wire(of: PutResponse(header: header)))
    }
  }

  @Test func `a log request holds the client's bytes and reads back`() throws {
    var random = Random(seed: 6)
    for _ in 0..<500 {
      let put = random.put()
      let body = wire(of: put)
      let id = UInt64(bitPattern: random.number())
      var bytes: [UInt8] = []
      bytes.appendInternalRaftRequest(
        .put, body.rawSpan, id: id, username: [UInt8]("root").rawSpan, authRevision: 3)
      let header = RequestHeader(id: id, username: "root", authRevision: 3)
      #expect(bytes == wire(of: InternalRaftRequest(header: header, put: put)))
      let view = try InternalRaftRequestView(bytes.rawSpan)
      #expect(view.id == id && view.kind == .put && view.authRevision == 3)
      #expect(Array(bytes[view.request.range]) == body)
      #expect(Array(bytes[view.username.range]) == [UInt8]("root"))
    }
    var bytes: [UInt8] = []
    bytes.appendInternalRaftRequest(
      .authEnable, [UInt8]().rawSpan, id: 9, username: [UInt8]().rawSpan, authRevision: 0)
    let expected = InternalRaftRequest(
      header: RequestHeader(id: 9), authEnable: AuthEnableRequest())
    #expect(bytes == wire(of: expected))
    let enable = try InternalRaftRequestView(bytes.rawSpan)
    #expect(enable.kind == .authEnable)
  }

  @Test(arguments: [0, 1, 126, 127, 128, 16_383, 16_384, 70_000])
  func `the length of an open field takes its shortest form whatever was guessed`(count: Int) {
    for guess in [0, 127, 128, 20_000] {
      var bytes: [UInt8] = [0xaa]
      let outer = bytes.beginField(1, expecting: guess)
      let inner = bytes.beginField(2, expecting: guess)
      bytes.append(contentsOf: [UInt8](repeating: 7, count: count))
      bytes.endField(inner)
      bytes.endField(outer)
      var innerBytes: [UInt8] = []
      innerBytes.appendMessage(2, [UInt8](repeating: 7, count: count).rawSpan)
      var expected: [UInt8] = [0xaa]
      expected.appendMessage(1, innerBytes.rawSpan)
      #expect(bytes == expected)
    }
  }
}

@Suite struct ReaderTests {
  private func reason(_ text: String) -> DecodeError? {
    let bytes = hex(text)
    do throws(DecodeError) {
      _ = try PutRequestView(bytes.rawSpan)
      return nil
    } catch {
      return error
    }
  }

  @Test func `what is wrong is named with its place`() {
    #expect(reason("0a") == DecodeError(.truncated, at: 1))
    #expect(reason("0a05 0102") == DecodeError(.truncated, at: 4))
    #expect(reason("1801 2280") == DecodeError(.wrongWireType, at: 2))
    #expect(reason("00 00") == DecodeError(.illegalTag, at: 0))
    #expect(reason("0c") == DecodeError(.unexpectedEndGroup, at: 0))
    #expect(reason("0e") == DecodeError(.wrongWireType, at: 0))
    #expect(reason("18 ffffffffffffffffffff 01") == DecodeError(.overlongVarint, at: 1))
    #expect(reason("0a ffffffffffffffffff01") == DecodeError(.illegalLength, at: 1))
    #expect(reason("79 00000000") == DecodeError(.truncated, at: 5))
    #expect(reason("7d 000000") == DecodeError(.truncated, at: 4))
  }

  @Test func `unknown fields and groups are passed over`() throws {
    // fields 15 to 19: number, 8 bytes, 4 bytes, bytes, a group with a group inside
    let bytes = hex(
      "7801 79 0102030405060708 7d 01020304 8201 02ffff 8b01 9301 0801 9401 8c01 1805")
    let known = try PutRequestView(bytes.rawSpan)
    #expect(known.lease == LeaseID(5))
    #expect(reason("8b01 9301 9401")?.reason == .truncated)
    #expect(reason("8b01 0a05 8c01")?.reason == .truncated)
  }

  @Test func `deep groups cost no stack`() {
    let bytes = [UInt8](repeating: 0x7b, count: 1_000_000)
    #expect(throws: DecodeError(.truncated, at: 1_000_000)) { try PutRequestView(bytes.rawSpan) }
  }

  @Test func `the last of a field counts and excess bits are dropped`() throws {
    let view = try PutRequestView(hex("1801 1802 2001 2000 0a0101 0a020203").rawSpan)
    #expect(view.lease == LeaseID(2) && !view.prevKV && view.key.count == 2)
    let wide = try PutRequestView(hex("18 ffffffffffffffffff7f").rawSpan)
    #expect(wide.lease == LeaseID(-1))
    // Field 3 in a tag of 10 bytes.
    let long = try PutRequestView(hex("98808080808080808000 04").rawSpan)
    #expect(long.lease == LeaseID(4))
  }

  @Test func `a oneof holds what came last`() throws {
    let watch = hex("0a020a00 12020805 0a03 0a0141")
    guard case .create(let create) = try WatchRequestView(watch.rawSpan) else {
      Issue.record("not a create request")
      return
    }
    #expect(create.key.count == 1)
    let compare = try CompareView(hex("2005 3a0141").rawSpan)
    #expect(compare.union == .value(Slice(start: 4, count: 1)))
  }

  @Test func `filters come packed or single`() throws {
    for text in ["0a042a020001", "0a0428002801"] {
      guard case .create(let create) = try WatchRequestView(hex(text).rawSpan) else {
        Issue.record("not a create request")
        return
      }
      #expect(create.noPut && create.noDelete)
    }
  }

  @Test func `a transaction is checked to its depth`() throws {
    var bytes: [UInt8] = []
    for depth in 1...60 {
      let whole = Slice(start: 0, count: bytes.count)
      let accepted = (try? TxnRequestView.checkNesting(bytes.rawSpan, in: whole)) != nil
      #expect(accepted == (depth <= MessageLimits.depthMax / 2))
      var op: [UInt8] = []
      op.appendMessage(4, bytes.rawSpan)
      bytes = []
      bytes.appendMessage(2, op.rawSpan)
    }
  }
}
