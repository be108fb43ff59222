extension Session.Block {
  /// Whether the fields that a request must have are there (RFC 9113 §8.3.1).
  var isWholeRequest: Bool { pseudo & 0b0111 == 0b0111 }

  /// Holds one field against RFC 9113 §8.2 and §8.3, but for what `:authority` may contain.
  mutating func check(_ name: Span<UInt8>, _ value: Span<UInt8>) {
    for i in value.indices where value[i] < 0x20 && value[i] != 9 || value[i] == 0x7f {
      isMalformed = true
    }
    guard !name.isEmpty else {
      isMalformed = true
      return
    }
    if name[0] == UInt8(ascii: ":") { return checkPseudo(name, value) }
    hasRegular = true
    for i in name.indices where !Self.isNameByte(name[i]) { isMalformed = true }
    if Self.isForbidden(name, value) { isMalformed = true }
  }

  private mutating func checkPseudo(_ name: Span<UInt8>, _ value: Span<UInt8>) {
    let bit: UInt8
    if Self.equals(name, ":method") {
      bit = 1
      if value.isEmpty { isMalformed = true }
    } else if Self.equals(name, ":scheme") {
      bit = 2
    } else if Self.equals(name, ":path") {
      bit = 4
      if value.isEmpty { isMalformed = true }
    } else if Self.equals(name, ":authority") {
      bit = 8
    } else {
      bit = 0
    }
    if bit == 0 || pseudo & bit != 0 || hasRegular || isTrailer { isMalformed = true }
    pseudo |= bit
  }

  /// A token without capitals (RFC 9110 §5.6.2, RFC 9113 §8.2.1).
  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x61...0x7a, 0x30...0x39, 0x2d, 0x5f, 0x2e: true
    case 0x21, 0x23...0x27, 0x2a, 0x2b, 0x5e, 0x60, 0x7c, 0x7e: true
    default: false
    }
  }

  /// Fields that speak of the connection (RFC 9113 §8.2.2).
  private static func isForbidden(_ name: Span<UInt8>, _ value: Span<UInt8>) -> Bool {
    switch name.count {
    case 2: equals(name, "te") && !equals(value, "trailers")
    case 7: equals(name, "upgrade")
    case 10: equals(name, "connection") || equals(name, "keep-alive")
    case 16: equals(name, "proxy-connection")
    case 17: equals(name, "transfer-encoding")
    default: false
    }
  }

  private static func equals(_ bytes: Span<UInt8>, _ text: StaticString) -> Bool {
    guard bytes.count == text.utf8CodeUnitCount else { return false }
    for i in bytes.indices where unsafe bytes[i] != text.utf8Start[i] { return false }
    return true
  }
}
