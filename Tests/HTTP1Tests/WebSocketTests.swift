import Basics
import HTTP1
import Testing

@Suite struct WebSocketTests {
  /// A frame as a client sends it.
  private func frame(_ code: UInt8, _ text: String, isLast: Bool = true) -> [UInt8] {
    let payload = Array(text.utf8)
    var bytes: [UInt8] = [(isLast ? 0x80 : 0) | code]
    if payload.count < 126 {
      bytes.append(0x80 | UInt8(payload.count))
    } else {
      bytes += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
    }
    let mask: [UInt8] = [1, 2, 3, 4]
    bytes += mask
    for (place, byte) in payload.enumerated() { bytes.append(byte ^ mask[place & 3]) }
    return bytes
  }

  private func steps(
    _ bytes: [UInt8], cut: Int = .max, max: Int = 1000
  ) throws -> [WebSocketReader.Step] {
    var reader = WebSocketReader(messageBytesMax: max)
    var found: [WebSocketReader.Step] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      let piece = Array(rest.prefix(cut))
      rest = rest.dropFirst(piece.count)
      reader.receive(piece.rawSpan)
      while let step = try reader.next() { found.append(step) }
    }
    return found
  }

  @Test(arguments: [1, 2, 5, 1000])
  func `messages come whole however they were cut`(cut: Int) throws {
    let long = String(repeating: "x", count: 300)
    let bytes =
      frame(1, "one") + frame(9, "p") + frame(1, "t", isLast: false) + frame(9, "q")
      + frame(0, "w", isLast: false) + frame(0, "o") + frame(2, long) + frame(10, "") + frame(8, "")
    let expected: [WebSocketReader.Step] = [
      .message(Array("one".utf8)), .ping(Array("p".utf8)), .ping(Array("q".utf8)),
      .message(Array("two".utf8)), .message(Array(long.utf8)), .closed,
    ]
    #expect(try steps(bytes, cut: cut) == expected)
  }

  @Test func `what a client must not send ends the connection`() {
    let unmasked: [UInt8] = [0x81, 1, 0x61]
    let reserved: [UInt8] = [0xc1, 0x80, 1, 2, 3, 4]
    for bytes in [
      unmasked, reserved, frame(0, "x"), frame(3, "x"), frame(9, "x", isLast: false),
      frame(1, "a", isLast: false) + frame(1, "b"),
    ] {
      #expect(throws: WebSocketReader.Fault(status: 1002)) { try steps(bytes) }
    }
    let huge: [UInt8] = [0x81, 0xff] + Array(repeating: 0xff, count: 8)
    #expect(throws: WebSocketReader.Fault(status: 1009)) { try steps(huge) }
    let many = frame(1, "abc", isLast: false) + frame(0, "def")
    #expect(throws: WebSocketReader.Fault(status: 1009)) { try steps(many, max: 5) }
  }

  @Test func `random bytes are refused or read`() {
    var random = Random(seed: 9)
    for _ in 0..<2000 {
      var bytes = frame(UInt8(random.next(below: 11)), "hello") + frame(1, "more")
      for _ in 0..<3 {
        bytes[random.next(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
      }
      _ = try? steps(bytes, cut: 1 + random.next(below: 9))
    }
  }

  @Test func `frames have the shortest length`() {
    for (count, head) in [(5, [0x81, 5]), (126, [0x81, 126, 0, 126])] as [(Int, [UInt8])] {
      let payload = [UInt8](repeating: 7, count: count)
      var bytes: [UInt8] = []
      WebSocketFrame.text.append(payload.rawSpan, to: &bytes)
      #expect(bytes == head + payload)
    }
    let large = [UInt8](repeating: 7, count: 70_000)
    var bytes: [UInt8] = []
    WebSocketFrame.text.append(large.rawSpan, to: &bytes)
    #expect(Array(bytes.prefix(10)) == [0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70])
  }

  @Test(.timeLimit(.minutes(1)))
  func `many small frames cost no more than their bytes`() throws {
    let frames = Array(repeatElement(frame(10, ""), count: 500_000).joined())
    #expect(try steps(frames + frame(1, "end")) == [.message([UInt8]("end".utf8))])
  }
}
