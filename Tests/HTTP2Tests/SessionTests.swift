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

  static let request = block([
    (":method", "POST"), (":scheme", "http"), (":path", "/etcdserverpb.KV/Put"),
    (":authority", "#initially=[127.0.0.1:2379]"), ("content-type", "application/grpc"),
  ])

  func session(pingIntervalMin: UInt64 = 0) -> Session {
    Session(settings: Session.Settings(streamsMax: 100, pingIntervalMin: pingIntervalMin))
  }

  @Test func `a request with an odd authority arrives, and its answer goes out with trailers`() {
    let session = session()
    #expect(feed(session, Self.preface))
    #expect(feed(session, Self.frame(1, 4, 1, Self.request)))
    #expect(feed(session, Self.frame(0, 1, 1, [0, 0, 0, 0, 1, 7])))
    var kinds: [String] = []
    for event in session.events {
      switch event {
      case .headers(let stream, let range):
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
      if case .writable(stream: 1) = $0 { true } else { false }
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

  @Test func `a client that pings too often is told to go`() {
    let session = session(pingIntervalMin: 5_000_000_000)
    #expect(feed(session, Self.preface))
    for i in 1...5 {
      session.now = UInt64(i) * 1_000_000
      _ = feed(session, Self.frame(6, 0, 0, [UInt8](repeating: 0, count: 8)))
    }
    var output: [UInt8] = []
    session.output(into: &output, limit: 1 << 20)
    #expect(Self.types(output).contains(7))
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
