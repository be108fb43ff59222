import Basics
import GRPC
import Testing

@Suite struct FramingTests {
  /// Feeds `bytes` in chunks of the given sizes and returns the messages or the refusal.
  func read(_ bytes: [UInt8], chunks: [Int], bytesMax: Int = 1000) -> ([[UInt8]], Status?) {
    var reader = MessageReader(bytesMax: bytesMax)
    var messages: [[UInt8]] = []
    var at = 0
    for size in chunks {
      let chunk = Array(bytes[at..<min(bytes.count, at + size)])
      at += chunk.count
      var offset = 0
      loop: while true {
        switch reader.next(in: chunk.rawSpan, from: &offset) {
        case .message(let message, let isHeld):
          messages.append(
            (isHeld ? reader.held : chunk).rawSpan.extracting(message.body).copied())
        case .needsMore: break loop
        case .refused(let status): return (messages, status)
        }
      }
    }
    return (messages, nil)
  }

  @Test func `messages come out the same however the stream is cut`() {
    var random = Random(seed: 3)
    for _ in 0..<300 {
      var bytes: [UInt8] = []
      var sent: [[UInt8]] = []
      for _ in 0..<random.next(below: 6) {
        let body = (0..<random.next(below: 40)).map { _ in UInt8(truncatingIfNeeded: random.next())
        }
        appendMessagePrefix(body.count, to: &bytes)
        bytes += body
        sent.append(body)
      }
      var chunks: [Int] = []
      while chunks.reduce(0, +) < bytes.count { chunks.append(1 + random.next(below: 30)) }
      let (messages, refusal) = read(bytes, chunks: chunks)
      #expect(messages == sent)
      #expect(refusal == nil)
    }
  }

  @Test func `a length over the limit and a wrong flag are refused before the body comes`() {
    let (_, large) = read([0, 0, 0, 4, 0], chunks: [5])
    #expect(large?.message == "grpc: received message larger than max (1024 vs. 1000)")
    #expect(large?.code == .resourceExhausted)
    let (_, flag) = read([9, 0, 0, 0, 0], chunks: [1, 4])
    #expect(flag?.code == .internalError)
  }

  @Test(arguments: [
    ("1H", 3_600_000_000_000 as UInt64?), ("5S", 5_000_000_000), ("100m", 100_000_000),
    ("99999999H", .max), ("7n", 7), ("m", nil), ("1x", nil), ("-1S", nil), ("123456789S", nil),
  ])
  func `a deadline reads as gRPC writes it`(text: String, nanoseconds: UInt64?) {
    #expect(timeoutNanoseconds(Array(text.utf8).rawSpan) == nanoseconds)
  }

  @Test func `a message of a status keeps to printable ASCII`() {
    #expect(Status(.unknown, "a%b\nü").encodedMessage == [UInt8]("a%25b%0A%C3%BC"))
  }
}
