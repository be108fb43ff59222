import Basics
import CBasics
import Testing

@Suite struct ChecksumTests {
  @Test func `the check value of CRC-32C is the published one`() {
    // RFC 3720, appendix B.4, and the usual "123456789".
    #expect(crc32c([UInt8]("123456789")) == 0xe306_9283)
    #expect(crc32c([UInt8](repeating: 0, count: 32)) == 0x8a91_36aa)
    #expect(crc32c([UInt8](repeating: 0xff, count: 32)) == 0x62a8_ab43)
  }

  @Test func `the instruction and the table agree, whole and in parts`() {
    var random = Random(seed: 7)
    for count in 0..<200 {
      let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
      let byTable = unsafe bytes.withUnsafeBytes {
        unsafe martlet_crc32c_portable(0, $0.baseAddress, $0.count)
      }
      #expect(crc32c(bytes) == byTable)
      let cut = count == 0 ? 0 : random.next(below: count)
      let parts = crc32c(Array(bytes[cut...]), seed: crc32c(Array(bytes[..<cut])))
      #expect(parts == byTable)
    }
  }
}
