/// A JSON value: of member records, the v2 tree, the gateway's requests. Holds up to about 25 times
/// the bytes that it is read from.
/// Objects keep the order of their fields; numbers keep their text.
public indirect enum JSON: Equatable, Sendable {
  case null
  case bool(Bool)
  case number([UInt8])
  case string(String)
  case array([JSON])
  case object([Field])

  /// A field of an object.
  public struct Field: Equatable, Sendable {
    public var name: String
    public var value: JSON
    public init(_ name: String, _ value: JSON) {
      self.name = name
      self.value = value
    }
  }

  /// What `parse` answers to bytes that are not one JSON document.
  public struct Malformed: Error, Equatable {
    /// Where reading stopped.
    public var offset: Int
    /// What is wrong, in the words of Go's `encoding/json`.
    public var text: String
  }

  /// How deep arrays and objects may nest.
  public static let depthMax = 256

  /// A whole number.
  public static func integer(_ value: UInt64) -> JSON { .number([UInt8](String(value).utf8)) }

  /// The field called `name`: exactly, or else whatever the letters' case, as Go decodes.
  public subscript(_ name: String) -> JSON? {
    guard case .object(let fields) = self else { return nil }
    if let field = fields.last(where: { $0.name == name }) { return field.value }
    let folded = JSON.folded(name)
    return fields.last { JSON.folded($0.name) == folded }?.value
  }

  public var text: String? {
    guard case .string(let text) = self else { return nil }
    return text
  }

  public var isTrue: Bool { self == .bool(true) }

  /// The number, when it is a whole one within 64 bits.
  public var unsigned: UInt64? {
    guard case .number(let digits) = self, !digits.isEmpty else { return nil }
    var value: UInt64 = 0
    for digit in digits {
      guard digit >= 0x30, digit <= 0x39 else { return nil }
      let (scaled, tooLarge) = value.multipliedReportingOverflow(by: 10)
      let (sum, overflow) = scaled.addingReportingOverflow(UInt64(digit - 0x30))
      guard !tooLarge, !overflow else { return nil }
      value = sum
    }
    return value
  }

  /// The strings of an array; what is not a string is left out.
  public var texts: [String]? {
    guard case .array(let values) = self else { return nil }
    return values.compactMap(\.text)
  }

  private static func folded(_ name: String) -> [UInt8] {
    name.utf8.map { $0 >= 0x41 && $0 <= 0x5a ? $0 + 0x20 : $0 }
  }
}

extension JSON {
  /// Adds the document as Go's `json.Marshal` writes it: no spaces; `<`, `>` and `&` escaped.
  public func encode(into bytes: inout [UInt8]) {
    switch self {
    case .null: bytes.append(contentsOf: "null".utf8)
    case .bool(let value): bytes.append(contentsOf: (value ? "true" : "false").utf8)
    case .number(let digits): bytes.append(contentsOf: digits)
    case .string(let text): JSON.encode(text, into: &bytes)
    case .array(let values):
      bytes.append(0x5b)
      for (index, value) in values.enumerated() {
        if index > 0 { bytes.append(0x2c) }
        value.encode(into: &bytes)
      }
      bytes.append(0x5d)
    case .object(let fields):
      bytes.append(0x7b)
      for (index, field) in fields.enumerated() {
        if index > 0 { bytes.append(0x2c) }
        JSON.encode(field.name, into: &bytes)
        bytes.append(0x3a)
        field.value.encode(into: &bytes)
      }
      bytes.append(0x7d)
    }
  }

  /// The document's bytes.
  public var encoded: [UInt8] {
    var bytes: [UInt8] = []
    encode(into: &bytes)
    return bytes
  }

  private static let hex = [UInt8]("0123456789abcdef".utf8)

  /// Adds `text` as a JSON string.
  public static func encode(_ text: String, into bytes: inout [UInt8]) {
    bytes.append(0x22)
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 0x22, 0x5c: bytes.append(contentsOf: [0x5c, UInt8(scalar.value)])
      case 0x0a: bytes.append(contentsOf: [0x5c, 0x6e])
      case 0x0d: bytes.append(contentsOf: [0x5c, 0x72])
      case 0x09: bytes.append(contentsOf: [0x5c, 0x74])
      case 0..<0x20, 0x3c, 0x3e, 0x26, 0x2028, 0x2029:
        bytes.append(contentsOf: [0x5c, 0x75])
        for shift in [12, 8, 4, 0] { bytes.append(hex[Int(scalar.value >> UInt32(shift)) & 15]) }
      default: bytes.append(contentsOf: String(scalar).utf8)
      }
    }
    bytes.append(0x22)
  }
}
