import Basics
import HTTP1
import Testing

@Suite struct ResponseTests {
  @Test func `an answer states its length, and one to HEAD leaves its body out`() {
    var head = ResponseHead(
      status: 200, contentType: "application/json", keepsAlive: true, isOld: false)
    head.headers = [("X-A", "b\r\nX-C: d")]
    var bytes: [UInt8] = []
    head.append(body: Array("{}".utf8).rawSpan, isHead: false, to: &bytes)
    let start =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: bX-C: d\r\n"
      + "Content-Length: 2\r\n\r\n"
    #expect(String(decoding: bytes, as: UTF8.self) == start + "{}")
    bytes = []
    head.append(body: Array("{}".utf8).rawSpan, isHead: true, to: &bytes)
    #expect(String(decoding: bytes, as: UTF8.self) == start)
  }

  @Test(arguments: [
    (false, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"),
    (true, "Connection: close\r\n\r\nabcd"),
  ])
  func `a body in pieces is chunked for those who know chunks`(isOld: Bool, end: String) {
    let head = ResponseHead(
      status: 200, contentType: "text/plain", keepsAlive: !isOld, isOld: isOld)
    var bytes: [UInt8] = []
    head.appendStreaming(to: &bytes)
    head.append(piece: Array("abc".utf8).rawSpan, to: &bytes)
    head.append(piece: [UInt8]().rawSpan, to: &bytes)
    head.append(piece: Array("d".utf8).rawSpan, to: &bytes)
    head.appendEnd(to: &bytes)
    #expect(
      String(decoding: bytes, as: UTF8.self)
        == "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + end)
  }
}
