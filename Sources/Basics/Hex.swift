/// Hexadecimal as etcd prints IDs: lower case, no leading zeros.
public enum Hex {
  static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }

  /// The text of an ID. etcd: `types.ID.String`.
  public static func text(_ value: UInt64) -> String { String(value, radix: 16) }

  /// The number that `text` spells in 1 to 16 digits.
  public static func value(_ text: some Sequence<UInt8>) -> UInt64? {
    var value: UInt64 = 0
    var count = 0
    for byte in text {
      guard let digit = Hex.digit(byte), count < 16 else { return nil }
      value = value << 4 | UInt64(digit)
      count += 1
    }
    return count == 0 ? nil : value
  }
}
