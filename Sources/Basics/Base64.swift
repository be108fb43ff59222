/// Base64 (RFC 4648): the standard alphabet with padding, or the one for URLs without.
public enum Base64 {
  public enum Alphabet: Sendable {
    case standard, url
  }

  /// Where a text is none.
  public struct IllegalInput: Error, Equatable {
    /// From the text's beginning.
    public var place: Int
  }

  private static let standard = [UInt8](
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  private static let url = [UInt8](
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

  private static let none: UInt8 = 255

  /// The value of each character, of both alphabets.
  private static let values: [UInt8] = {
    var values = [UInt8](repeating: none, count: 256)
    for (value, character) in standard.enumerated() { values[Int(character)] = UInt8(value) }
    for (value, character) in url.enumerated() { values[Int(character)] = UInt8(value) }
    return values
  }()

  public static func encode(_ bytes: [UInt8], _ alphabet: Alphabet = .standard) -> [UInt8] {
    var text: [UInt8] = []
    encode(bytes.rawSpan, alphabet, into: &text)
    return text
  }

  /// Appends `bytes` as text.
  public static func encode(
    _ bytes: RawSpan, _ alphabet: Alphabet = .standard, into text: inout [UInt8]
  ) {
    let isPadded = alphabet == .standard
    let alphabet = isPadded ? standard : url
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
    if left == 2 { text.append(alphabet[group >> 6 & 63]) }
    if isPadded { for _ in left..<3 { text.append(UInt8(ascii: "=")) } }
  }

  /// The bytes; nil when the text is not of the alphabet, or its length or padding is wrong.
  public static func decode(_ text: [UInt8], _ alphabet: Alphabet = .standard) -> [UInt8]? {
    let foreign = [UInt8]((alphabet == .standard ? "-_\r\n" : "+/=\r\n").utf8)
    guard alphabet == .url || text.count % 4 == 0, !text.contains(where: foreign.contains)
    else { return nil }
    return try? decode(lenient: text)
  }

  /// The bytes of `text` in either alphabet, padded or not, line breaks passed over as in Go.
  /// Throws the place of the first character that does not belong.
  public static func decode(lenient text: [UInt8]) throws(IllegalInput) -> [UInt8] {
    let values = values
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.count / 4 * 3 + 3)
    var group = 0
    var count = 0
    var padding = 0
    var place = -1
    for character in text {
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
}
