import Basics
import HTTP1
import Testing

@Suite struct RequestParserTests {
  func parse(_ text: String, step: Int = .max) throws(Refusal) -> [Request] {
    var parser = RequestParser(bodyBytesMax: 100)
    var found: [Request] = []
    let bytes = Array(text.utf8)
    var at = 0
    while at < bytes.count {
      let end = at + min(step, bytes.count - at)
      parser.receive(Array(bytes[at..<end]).rawSpan)
      at = end
      while let request = try parser.next() { found.append(request) }
    }
    return found
  }

  @Test(arguments: [1, 2, 7, 1000])
  func `requests come out the same however the bytes are cut`(step: Int) throws {
    let text =
      "GET /health?serializable=true&a=? HTTP/1.1\r\nHost: a\r\n\r\n"
      + "\r\nPOST /v3/kv/put HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"
      + "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nX-Y: \t a b \t\r\n\r\n"
      + "3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n"
      + "GET http://a:1?q HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"
    let found = try parse(text, step: step)
    #expect(found.map(\.path) == ["/health", "/v3/kv/put", "/", "/"])
    #expect(found.map(\.query) == ["serializable=true&a=?", "", "", "q"])
    #expect(found.map(\.keepsAlive) == [true, false, true, false])
    #expect(found.map(\.isOld) == [false, true, false, false])
    #expect(found[2].header("x-y") == "a b")
    #expect(
      found.map { String(decoding: $0.body, as: UTF8.self) } == ["", "abc", "abc0123456789", ""])
  }

  @Test(arguments: [
    ("GET / HTTP/2.0\r\n\r\n", 505), ("GET /\r\n\r\n", 400), ("G T / x HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1 \r\n\r\n", 400), ("GET  / HTTP/1.1\r\n\r\n", 400),
    ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400), ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n", 400), ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nA : b\r\n\r\n", 400), ("GET / HTTP/1.1\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400), ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nA: b\u{0}\r\n\r\n", 400), ("GET / HTTP/1.1\r\n: b\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
  ])
  func `a malformed head is refused with its status`(text: String, status: Int) {
    let refusal = #expect(throws: Refusal.self) { try parse(text) }
    #expect(refusal?.status == status)
  }

  @Test(arguments: [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ("Content-Length: 1, 1\r\n\r\n", 400), ("Content-Length: -1\r\n\r\n", 400),
    ("Content-Length: +1\r\n\r\n", 400), ("Content-Length: \r\n\r\n", 400),
    ("Content-Length: 99999999999999999999\r\n\r\n", 400), ("Content-Length: 101\r\n\r\n", 413),
    ("Transfer-Encoding: gzip\r\n\r\n", 501), ("Transfer-Encoding: chunked, chunked\r\n\r\n", 501),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
    ("Transfer-Encoding: chun\u{212a}ed\r\n\r\n", 501),
    ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n5 \r\nabcde\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n5\nabcde\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\nabcd", 400),
    ("Transfer-Encoding: chunked\r\n\r\nFFFFFF\r\n", 413),
    ("Transfer-Encoding: chunked\r\n\r\n000000001\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n", 400),
  ])
  func `a malformed body is refused with its status`(rest: String, status: Int) {
    let refusal = #expect(throws: Refusal.self) {
      try parse("POST / HTTP/1.1\r\nHost: a\r\n" + rest)
    }
    #expect(refusal?.status == status)
  }

  @Test func `a head that never ends is refused`() {
    let text = "GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 5000)
    let refusal = #expect(throws: Refusal.self) { try parse(text, step: 100) }
    #expect(refusal?.status == 431)
  }

  @Test func `chunks that bring next to nothing are refused`() {
    let chunk = "1;" + String(repeating: "e", count: 200) + "\r\nx\r\n"
    let text =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      + String(repeating: chunk, count: 99)
    let refusal = #expect(throws: Refusal.self) { try parse(text) }
    #expect(refusal?.status == 400)
  }

  @Test func `a client that waits to be asked for the body is asked once`() throws {
    var parser = RequestParser(bodyBytesMax: 100)
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    var asked: [Bool] = []
    var bodies: [[UInt8]?] = []
    for part in [head, "", "a", "b"] {
      parser.receive(Array(part.utf8).rawSpan)
      bodies.append(try parser.next()?.body)
      let asks = parser.takeContinue()
      asked.append(asks)
    }
    #expect(asked == [true, false, false, false])
    #expect(bodies == [nil, nil, nil, Array("ab".utf8)])
    let isInside = parser.isInsideRequest
    #expect(!isInside)
  }

  @Test func `hostile bytes never end the process`() {
    var random = Random(seed: 11)
    let seed = Array(
      "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".utf8)
    for _ in 0..<3000 {
      var bytes = seed
      for _ in 0...random.next(below: 4) {
        switch random.next(below: 3) {
        case 0: bytes[random.next(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
        case 1: bytes.remove(at: random.next(below: bytes.count))
        default: bytes.insert(seed[random.next(below: seed.count)], at: random.next(below: 40))
        }
      }
      let once = outcome(bytes, step: .max)
      #expect(outcome(bytes, step: 1 + random.next(below: 9)) == once)
    }
  }

  /// What comes out of `bytes`, as text; the same for every `step`.
  func outcome(_ bytes: [UInt8], step: Int) -> String {
    var parser = RequestParser(bodyBytesMax: 100)
    var text = ""
    var at = 0
    do {
      while at < bytes.count {
        let end = at + min(step, bytes.count - at)
        parser.receive(Array(bytes[at..<end]).rawSpan)
        at = end
        while let request = try parser.next() { text += "\(request)\n" }
      }
    } catch {
      text += "\(error.status)"
    }
    return text
  }

  @Test func `a body comes in pieces when it is wanted so`() throws {
    let request =
      "POST /watch HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
      + "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"
    for cut in [1, 2, 7, 1000] {
      var parser = RequestParser(bodyBytesMax: 5)
      var seen: [String] = []
      var body = ""
      var rest = Array(request.utf8)[...]
      while !rest.isEmpty {
        let piece = Array(rest.prefix(cut))
        rest = rest.dropFirst(cut)
        parser.receive(piece.rawSpan)
        while let step = try parser.next(streaming: { $0.method == "POST" }) {
          switch step {
          case .opened(let head): seen.append("opened \(head.path) \(parser.isStreaming)")
          case .piece(let bytes): body += String(decoding: bytes, as: UTF8.self)
          case .ended: seen.append("ended \(parser.isStreaming)")
          case .request(let whole): seen.append("\(whole.method) \(whole.path)")
          }
        }
      }
      #expect(seen == ["opened /watch true", "ended false", "GET /"])
      #expect(body == "abcdefg")
    }
  }
}
