import Basics
import HTTP2
import Testing

@Suite struct SessionTests {
  static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4, 0, 0, [])

  static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ body: [UInt8]) -> [UInt8] {
    let count = UInt32(body.count)
    var bytes: [UInt8] = []
    for shift in [16, 8, 0] as [UInt32] { bytes.append(UInt8(truncatingIfNeeded: count >> shift)) }
    bytes += [type, flags]
    for shift in [24, 16, 8, 0] as [UInt32] {
      bytes.append(UInt8(truncatingIfNeeded: stream >> shift))
    }
    return bytes + body
  }

  /// A header block without indexing or Huffman coding (RFC 7541 §6.2.2).
  static func block(_ fields: [(String, String)]) -> [UInt8] {
    var bytes: [UInt8] = []
    for (name, value) in fields {
      bytes += [0, UInt8(name.utf8.count)]
      bytes += Array(name.utf8)
      bytes.append(UInt8(value.utf8.count))
      bytes += Array(value.utf8)
    }
    return bytes
  }

  static let fields = [
    (":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.KV/Put"),
    (":authority", "#initially=[127.0.0.1:2379]"), ("content-type", "application/grpc"),
  ]
  static let request = block(fields)

  func session(pingIntervalMin: UInt64 = 0) -> Session {
    Session(
      settings: Session.Settings(streamsMax: 100, pingIntervalMin: pingIntervalMin), pool: Pool())
  }

  @Test func `a request with an odd authority arrives, and its answer goes out with trailers`() {
    let session = session()
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 4, 1, Self.request)))
    #expect(feed(session, Self.frame(0, 1, 1, [0, 0, 0, 0, 1, 7])))
    var kinds: [String] = []
    for event in session.events {
      switch event {
      case .headers(let at, let range):
        let stream = at.stream
        let names = session.fields[range].map {
          String(decoding: session.eventBytes[$0.name.range], as: UTF8.self)
        }
        #expect(stream == 1 && names.last == "content-type")
        kinds.append("headers")
      case .data(_, let slice): kinds.append("data \(Array(session.eventBytes[slice.range]))")
      case .endOfStream: kinds.append("end")
      default: kinds.append("other")
      }
    }
    #expect(kinds == ["headers", "data [0, 0, 0, 0, 1, 7]", "end"])
    session.clearEvents()
    session.respondGRPC(1)
    session.send(1, [1, 2, 3].rawSpan)
    session.finishGRPC(1, status: 0, message: [])
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Self.types(output).filter { $0 != 4 && $0 != 8 } == [1, 0, 1])
    #expect(session.openStreams == 0)
    #expect(session.queuedBytes == 0)
  }

  @Test func `a request arrives whole wherever the bytes are cut`() {
    let request = Self.frame(1, 4, 1, Self.request)
    for cut in 1..<request.count {
      let session = session()
      #expect(feed(session, Self.preface + request[..<cut]))
      session.clearEvents()
      #expect(feed(session, Array(request[cut...])))
      guard case .headers(_, let range)? = session.events.first else {
        Issue.record("no headers after a cut at \(cut)")
        continue
      }
      let values = session.fields[range].map {
        String(decoding: session.eventBytes[$0.value.range], as: UTF8.self)
      }
      #expect(values == Self.fields.map(\.1))
    }
  }

  @Test(arguments: [
    [(":method", "POST"), (":scheme", "http")],
    [(":method", "POST"), (":path", "/a"), (":scheme", "http"), (":path", "/b")],
    [(":method", "POST"), (":scheme", "http"), ("a", "b"), (":path", "/a")],
    [(":method", "POST"), (":scheme", "http"), (":path", "")],
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":status", "200")],
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("Upper", "b")],
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("connection", "close")],
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("te", "gzip")],
    [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("x", "a\r\nb")],
  ])
  func `a malformed request is reset and is no event`(fields: [(String, String)]) {
    let session = session()
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 5, 1, Self.block(fields))))
    #expect(session.events.isEmpty)
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Self.types(output).contains(3))
    #expect(session.openStreams == 0)
  }

  @Test func `a call that ends while its client still sends is reset without an error`() {
    let session = session()
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 4, 1, Self.request)))
    session.clearEvents()
    session.finishGRPC(1, status: 8, message: [])
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Self.types(output).filter { $0 != 4 && $0 != 8 } == [1, 3])
    #expect(output.suffix(4) == [0, 0, 0, 0])
    #expect(session.openStreams == 0)
  }

  @Test func `a large header block is refused and the connection goes on`() {
    let large = (0..<130).map { ("x\($0)", String(repeating: "v", count: 120)) }
    let block = Self.block(Self.fields + large)
    let session = session()
    #expect(feed(session, Self.preface))
    let first = Array(block.prefix(10_000))
    let rest = Array(block.dropFirst(10_000))
    #expect(feed(session, Self.frame(1, 1, 1, first) + Self.frame(9, 4, 1, rest)))
    #expect(session.events.isEmpty)
    #expect(feed(session, Self.frame(1, 5, 3, Self.request)))
    #expect(
      session.events.contains { event in
        if case .headers(let at, _) = event { at.stream == 3 } else { false }
      })
  }

  func feed(_ session: Session, _ bytes: [UInt8]) -> Bool { session.receive(bytes.rawSpan) }

  static func types(_ bytes: [UInt8]) -> [UInt8] {
    var types: [UInt8] = []
    var at = 0
    while at + 9 <= bytes.count {
      types.append(bytes[at + 3])
      let size = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
      at += 9 + size
    }
    return types
  }

  @Test func `a stream whose client does not read stops being writable and is told of later`() {
    let session = session()
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 5, 1, Self.request)))
    session.respondGRPC(1)
    session.clearEvents()
    session.send(1, [UInt8](repeating: 0, count: 2 << 20).rawSpan)
    #expect(!session.isWritable(1))
    var output: [UInt8] = []
    session.output(into: &output, limit: 8 << 20)
    #expect(output.count < 70_000)
    let room: [UInt8] = [0, 0x20, 0, 0]
    #expect(feed(session, Self.frame(8, 0, 0, room)))
    #expect(feed(session, Self.frame(8, 0, 1, room)))
    session.output(into: &output, limit: 8 << 20)
    #expect(session.isWritable(1))
    let told = session.events.contains {
      if case .writable(let at) = $0 { at.stream == 1 } else { false }
    }
    #expect(told)
  }

  @Test func `a client that resets streams before they are answered is cut off`() {
    let session = session()
    #expect(feed(session, Self.preface))
    var survived = true
    for i in 0..<1200 where survived {
      let stream = UInt32(2 * i + 1)
      survived =
        feed(session, Self.frame(1, 4, stream, Self.request))
        && feed(session, Self.frame(3, 0, stream, [0, 0, 0, 8]))
    }
    #expect(!survived)
  }

  static let ping = frame(6, 0, 0, [UInt8](repeating: 0, count: 8))

  @Test func `a stream beyond the limit is refused and the others go on`() {
    let session = Session(
      settings: Session.Settings(streamsMax: 2, pingIntervalMin: 0), pool: Pool())
    #expect(feed(session, Self.preface))
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Array(output[9..<15]) == [0, 3, 0, 0, 0, 2])
    #expect(feed(session, Self.frame(4, 1, 0, [])))
    for stream in [1, 3, 5] as [UInt32] {
      #expect(feed(session, Self.frame(1, 4, stream, Self.request)))
    }
    #expect(session.openStreams == 2)
    output = []
    session.output(into: &output, limit: 1 << 20)
    #expect(output.suffix(13) == Self.frame(3, 0, 5, [0, 0, 0, 7]))
    session.finishGRPC(1, status: 0, message: [])
    session.output(into: &output, limit: 1 << 20)
    #expect(feed(session, Self.frame(1, 5, 7, Self.request)))
    #expect(session.openStreams == 2)
  }

  @Test func `a client that pings too often is told to go, and why`() {
    let session = session(pingIntervalMin: 5_000_000_000)
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 5, 1, Self.request)))
    let survived = (1...4).map { i in
      session.now = UInt64(i) * 1_000_000_000
      return feed(session, Self.ping)
    }
    #expect(survived == [true, true, true, false])
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Self.types(output).contains(7))
    #expect(String(decoding: output, as: UTF8.self).contains("too_many_pings"))
  }

  @Test func `pings that follow answers measure bandwidth and are no offence`() {
    let session = session(pingIntervalMin: 5_000_000_000)
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 4, 1, Self.request)))
    session.respondGRPC(1)
    for i in 1...20 {
      session.now = UInt64(i) * 1_000_000
      session.send(1, [1, 2, 3].rawSpan)
      var output: [UInt8] = []
      session.output(into: &output, limit: 1 << 20)
      #expect(feed(session, Self.ping))
    }
  }

  @Test func `without an open stream a client may ping every two hours only`() {
    let session = session(pingIntervalMin: 5_000_000_000)
    #expect(feed(session, Self.preface))
    let survived = (1...4).map { i in
      session.now = UInt64(i) * 60_000_000_000
      return feed(session, Self.ping)
    }
    #expect(survived == [true, true, true, false])
  }

  @Test func `calls cancelled at a bearable rate never cut a connection off`() {
    let session = session()
    #expect(feed(session, Self.preface))
    for i in 0..<3000 {
      session.now = UInt64(i) * 12_000_000
      let stream = UInt32(2 * i + 1)
      #expect(feed(session, Self.frame(1, 4, stream, Self.request)))
      #expect(feed(session, Self.frame(3, 0, stream, [0, 0, 0, 8])))
      session.clearEvents()
    }
  }

  @Test func `hostile bytes never end the process`() {
    var random = Random(seed: 5)
    let good =
      Self.preface + Self.frame(1, 4, 1, Self.request) + Self.frame(0, 1, 1, [0, 0, 0, 0, 1, 7])
    for _ in 0..<2000 {
      var bytes = good
      for _ in 0...random.next(below: 5) {
        bytes[24 + random.next(below: bytes.count - 24)] = UInt8(truncatingIfNeeded: random.next())
      }
      let session = session()
      _ = feed(session, bytes)
      var output: [UInt8] = []
      session.output(into: &output, limit: 1 << 16)
    }
  }
}
