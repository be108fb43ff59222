// Numbers of eight bytes, the highest first, as etcd writes them into keys, IDs and frames.

extension RawSpan {
  /// The number in the eight bytes from `offset` on; traps when they do not lie inside.
  public func bigEndian(at offset: Int = 0) -> UInt64 {
    precondition(offset >= 0 && offset <= byteCount - 8)
    return UInt64(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
}

extension [UInt8] {
  /// The eight bytes of `value`.
  public init(bigEndian value: UInt64) {
    self = []
    append(bigEndian: value)
  }

  /// Adds the eight bytes of `value`.
  public mutating func append(bigEndian value: UInt64) {
    unsafe Swift.withUnsafeBytes(of: value.bigEndian) { unsafe append(contentsOf: $0) }
  }
}
