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
      "GET /health?serializable=true HTTP/1.1\r\nHost: a\r\n\r\n"
      + "\r\nPOST /v3/kv/put HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
      + "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    let found = try parse(text, step: step)
    #expect(found.map(\.path) == ["/health", "/v3/kv/put", "/"])
    #expect(found[0].query == "serializable=true")
    #expect(found.map(\.keepsAlive) == [true, false, true])
    #expect(found.map { String(decoding: $0.body, as: UTF8.self) } == ["", "abc", "abcde"])
  }

  @Test(arguments: [
    ("GET / HTTP/2.0\r\n\r\n", 505), ("GET /\r\n\r\n", 400), ("G T / x HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nA : b\r\n\r\n", 400), ("GET / HTTP/1.1\r\n folded\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
    ("POST / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", 413),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabcd", 400),
    ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFF\r\n", 413),
  ])
  func `what is malformed is refused with its status`(text: String, status: Int) {
    let refusal = #expect(throws: Refusal.self) { try parse(text) }
    #expect(refusal?.status == status)
  }

  @Test func `a head that never ends is refused`() {
    let text = "GET / HTTP/1.1\r\n" + String(repeating: "A: b\r\n", count: 5000)
    let refusal = #expect(throws: Refusal.self) { try parse(text, step: 100) }
    #expect(refusal?.status == 431)
  }

  @Test func `hostile bytes never end the process`() {
    var random = Random(seed: 11)
    let seed = Array(
      "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".utf8)
    for _ in 0..<3000 {
      var bytes = seed
      for _ in 0...random.next(below: 4) {
        bytes[random.next(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
      }
      _ = try? parse(String(decoding: bytes, as: UTF8.self), step: 1 + random.next(below: 9))
    }
  }
}
