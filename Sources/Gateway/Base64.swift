internal import Basics

/// Base64 (RFC 4648), as JSON carries `bytes`.
enum Base64 {
  private static let alphabet = [UInt8](
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")

  private static let none: UInt8 = 255

  /// The value of each character, of both alphabets: the standard one and the one for URLs.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: none, count: 256)
    for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
    values[Int(UInt8(ascii: "-"))] = 62
    values[Int(UInt8(ascii: "_"))] = 63
    return values
  }()

  /// Appends `bytes` in the standard alphabet, padded.
  static func encode(_ bytes: RawSpan, into text: inout [UInt8]) {
    let alphabet = alphabet
    text.reserveCapacity(text.count + (bytes.byteCount + 2) / 3 * 4)
    var at = 0
    while at + 3 <= bytes.byteCount {
      let group = Int(bytes[at]) << 16 | Int(bytes[at + 1]) << 8 | Int(bytes[at + 2])
      text.append(alphabet[group >> 18])
      text.append(alphabet[group >> 12 & 63])
      text.append(alphabet[group >> 6 & 63])
      text.append(alphabet[group & 63])
      at += 3
    }
    let left = bytes.byteCount - at
    guard left > 0 else { return }
    let group = Int(bytes[at]) << 16 | (left == 2 ? Int(bytes[at + 1]) << 8 : 0)
    text.append(alphabet[group >> 18])
    text.append(alphabet[group >> 12 & 63])
    text.append(left == 2 ? alphabet[group >> 6 & 63] : UInt8(ascii: "="))
    text.append(UInt8(ascii: "="))
  }

  /// The bytes of `text` in either alphabet, padded or not, line breaks passed over as in Go.
  /// Throws the place of the first character that does not belong.
  static func decode(_ text: String) throws(IllegalInput) -> [UInt8] {
    let values = values
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 4 * 3 + 3)
    var group = 0
    var count = 0
    var padding = 0
    var place = -1
    for character in text.utf8 {
      place += 1
      if character == 0x0a || character == 0x0d { continue }
      if character == UInt8(ascii: "=") {
        padding += 1
        guard count + padding <= 4, count >= 2 else { throw IllegalInput(place: place) }
        continue
      }
      let value = values[Int(character)]
      guard value != none, padding == 0 else { throw IllegalInput(place: place) }
      group = group << 6 | Int(value)
      count += 1
      if count == 4 {
        bytes.append(UInt8(truncatingIfNeeded: group >> 16))
        bytes.append(UInt8(truncatingIfNeeded: group >> 8))
        bytes.append(UInt8(truncatingIfNeeded: group))
        group = 0
        count = 0
      }
    }
    guard padding == 0 || count + padding == 4, count != 1 else {
      throw IllegalInput(place: place + 1)
    }
    if count >= 2 { bytes.append(UInt8(truncatingIfNeeded: group >> (count == 2 ? 4 : 10))) }
    if count == 3 { bytes.append(UInt8(truncatingIfNeeded: group >> 2)) }
    return bytes
  }

  struct IllegalInput: Error, Equatable {
    /// From the text's beginning.
    var place: Int
  }
}

/// `bytes` in base64's standard alphabet, padded.
public func base64(_ bytes: [UInt8]) -> [UInt8] {
  var text: [UInt8] = []
  Base64.encode(bytes.rawSpan, into: &text)
  return text
}
