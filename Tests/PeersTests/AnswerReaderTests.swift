import Basics
import Peers
import Testing

@Suite struct AnswerReaderTests {
  /// The reader after the text, and the body.
  func read(
    _ text: String, step: Int = .max
  ) throws(WireError) -> (AnswerReader, String) {
    var reader = AnswerReader()
    var body: [UInt8] = []
    let bytes = Array(text.utf8)
    var at = 0
    while at < bytes.count {
      let end = at + min(step, bytes.count - at)
      try reader.receive(Array(bytes[at..<end]).rawSpan, body: &body)
      at = end
    }
    return (reader, String(decoding: body, as: UTF8.self))
  }

  @Test(arguments: [1, 3, Int.max])
  func `answers come out the same however the bytes are cut`(step: Int) throws {
    let (plain, text) = try read(
      "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhello", step: step)
    #expect(plain.head?.status == 412 && plain.head?.header("x-y") == "z")
    #expect(text == "hello" && plain.leavesConnectionUsable)
    let (chunked, body) = try read(
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + "3\r\nabc\r\n00a;x=y\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n", step: step)
    #expect(chunked.head?.status == 200 && body == "abc0123456789" && chunked.isComplete)
    let (empty, _) = try read("HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", step: step)
    #expect(empty.leavesConnectionUsable)
  }

  @Test func `a body without a length ends with the connection`() throws {
    var (reader, body) = try read("HTTP/1.0 200 OK\r\n\r\nabc")
    #expect(body == "abc" && !reader.isComplete)
    let isWhole = reader.closed()
    #expect(isWhole && !reader.leavesConnectionUsable)
    var (cut, _) = try read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    let isCutWhole = cut.closed()
    #expect(!isCutWhole)
  }

  @Test func `an endless body is handed on as it comes`() throws {
    let (reader, body) = try read(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    #expect(body == "ab" && !reader.isComplete)
  }

  @Test func `a connection that closes or talks on is not used again`() throws {
    let (closing, _) = try read(
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    #expect(closing.isComplete && !closing.leavesConnectionUsable)
    let (talking, _) = try read("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab")
    #expect(talking.isComplete && !talking.leavesConnectionUsable)
  }

  @Test(arguments: [
    "SSH-2.0-OpenSSH\r\n\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n123456789\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nab",
  ])
  func `what is no answer is refused`(text: String) {
    #expect(throws: WireError.malformedAnswer) { try read(text) }
  }

  @Test func `a head without an end is refused`() {
    let text = "HTTP/1.1 200 OK\r\n" + String(repeating: "A: b\r\n", count: 20_000)
    #expect(throws: WireError.malformedAnswer) { try read(text, step: 5000) }
  }

  @Test func `a request is written with its length or in chunks`() {
    var bytes: [UInt8] = []
    PeerRequest("POST", "/raft", headers: [("A", "b")], body: .bytes([1, 2], type: "x/y"))
      .encode(for: "h:1", into: &bytes)
    #expect(
      bytes == Array(
        "POST /raft HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Type: x/y\r\nContent-Length: 2\r\n\r\n"
          .utf8) + [1, 2])
    bytes = []
    PeerRequest("POST", "/raft/snapshot", headers: [], body: .chunked(type: "x/y"))
      .encode(for: "h:1", into: &bytes)
    let piece = Array("abc".utf8)
    bytes.appendChunk(piece.rawSpan)
    bytes.appendChunk([UInt8]().rawSpan)
    bytes.appendLastChunk()
    #expect(
      String(decoding: bytes, as: UTF8.self).hasSuffix(
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
  }
}
