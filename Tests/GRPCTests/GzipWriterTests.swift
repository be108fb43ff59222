import Basics
import GRPC
import Testing

@Suite struct GzipWriterTests {
  @Test func `what is packed in pieces is unpacked as a whole`() throws {
    var random = Random(seed: 7)
    var bytes: [UInt8] = []
    var packed: [UInt8] = []
    var writer = GzipWriter()
    for round in 0..<20 {
      let piece = (0..<(round * 5000)).map { _ in UInt8(truncatingIfNeeded: random.next() & 0x3f) }
      bytes += piece
      writer.pack(piece, isLast: false, into: &packed)
    }
    writer.pack([], isLast: true, into: &packed)
    #expect(packed.count < bytes.count)
    func unpacked(_ packed: [UInt8]) throws -> [UInt8] {
      try gunzip(packed.rawSpan, bytesMax: 1 << 21)
    }
    #expect(try unpacked(packed) == bytes)
  }
}
