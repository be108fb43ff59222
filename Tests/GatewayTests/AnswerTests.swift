import Basics
import GRPC
import Gateway
import Testing

@Suite struct AnswerTests {
  @Test func `a failure has grpc-gateway's body and status`() {
    let status = Status(.notFound, "etcdserver: requested lease not found")
    #expect(httpStatus(.notFound) == 404)
    #expect(
      text(failureBody(status))
        == #"{"error":"etcdserver: requested lease not found","code":5,"#
        + #""message":"etcdserver: requested lease not found"}"#)
    #expect(
      text(failureChunk(status, phrase: "Not Found"))
        == #"{"error":{"grpc_code":5,"http_code":404,"message":"etcdserver: requested lease not "#
        + #"found","http_status":"Not Found"}}"#)
  }

  @Test func `a message of a stream is one line`() throws {
    var chunk: [UInt8] = []
    let empty: [UInt8] = []
    try appendChunk(empty.rawSpan, as: "etcdserverpb.WatchResponse", to: &chunk)
    #expect(text(chunk) == "{\"result\":{}}\n")
  }

  @Test func `origins that may ask are told so`() {
    let all = Access(origins: ["*"], hosts: ["*"])
    #expect(all.fields(origin: "").map(\.value).last == "*")
    let some = Access(origins: ["http://a", "http://b"], hosts: [])
    #expect(some.fields(origin: "http://b").map(\.value).last == "http://b")
    #expect(some.fields(origin: "http://c").isEmpty)
    #expect(some.fields(origin: "").isEmpty)
  }

  @Test(arguments: [
    ("good", true), ("good:2379", true), ("bad:2379", false), ("", false), ("[::1]:2379", true),
    ("[::2]", false),
  ])
  func `a Host that was not allowed is refused`(host: String, isFine: Bool) {
    let access = Access(origins: [], hosts: ["good", "::1"])
    #expect((access.refusal(host: host) == nil) == isFine)
    #expect(Access(origins: [], hosts: []).refusal(host: host) == nil)
    #expect(Access(origins: [], hosts: ["*"]).refusal(host: host) == nil)
  }
}
