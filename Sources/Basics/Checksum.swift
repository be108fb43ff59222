internal import CBasics

/// CRC-32 (Castagnoli) of `bytes`, continued from `seed` (0 to start), as Go's
/// `hash/crc32.Update` computes it. About 50 ns for 300 bytes; allocates nothing.
public func crc32c(_ bytes: RawSpan, seed: UInt32 = 0) -> UInt32 {
  unsafe bytes.withUnsafeBytes { unsafe martlet_crc32c(seed, $0.baseAddress, $0.count) }
}

/// CRC-32 (Castagnoli) of `bytes`, continued from `seed` (0 to start).
public func crc32c(_ bytes: [UInt8], seed: UInt32 = 0) -> UInt32 {
  crc32c(bytes.rawSpan, seed: seed)
}
