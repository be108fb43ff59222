extension JSON {
  /// Reads one document, blanks around it allowed. Repeated field names are kept.
  public static func parse(_ bytes: [UInt8]) throws(Malformed) -> JSON {
    var reader = Reader(bytes: bytes)
    reader.skipBlanks()
    let value = try reader.value(depth: 0)
    reader.skipBlanks()
    guard reader.offset == bytes.count else { throw reader.unexpected("after top-level value") }
    return value
  }

  /// Reads the first document and leaves what follows it, as a stream is read; nil when there are
  /// only blanks.
  public static func first(in bytes: [UInt8]) throws(Malformed) -> JSON? {
    var reader = Reader(bytes: bytes)
    reader.skipBlanks()
    return reader.next == nil ? nil : try reader.value(depth: 0)
  }

  /// Reads RFC 8259's grammar; says what is wrong in the words of Go's `encoding/json`, which
  /// users of etcd's gateway know.
  private struct Reader {
    let bytes: [UInt8]
    var offset = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    /// The error of the byte at `offset`, or of there being none.
    func unexpected(_ place: String) -> Malformed {
      guard let byte = next else { return Malformed(offset: offset, text: "unexpected EOF") }
      return Malformed(offset: offset, text: "invalid character \(Self.quoted(byte)) \(place)")
    }

    private static func quoted(_ byte: UInt8) -> String {
      switch byte {
      case 0x27: "'\\''"
      case 0x22: "'\"'"
      case 0x5c: "'\\\\'"
      case 0x07: "'\\a'"
      case 0x08: "'\\b'"
      case 0x09: "'\\t'"
      case 0x0a: "'\\n'"
      case 0x0b: "'\\v'"
      case 0x0c: "'\\f'"
      case 0x0d: "'\\r'"
      case 0x20...0x7e: "'\(Character(Unicode.Scalar(byte)))'"
      case 0..<0x80: "'\\x\(byte < 16 ? "0" : "")\(String(byte, radix: 16))'"
      // Go takes the byte for a code point.
      default:
        byte < 0xa0 || byte == 0xad
          ? "'\\u00\(String(byte, radix: 16))'" : "'\(Character(Unicode.Scalar(byte)))'"
      }
    }

    mutating func skipBlanks() {
      while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
        offset += 1
      }
    }

    mutating func expect(_ byte: UInt8, _ place: String) throws(Malformed) {
      guard next == byte else { throw unexpected(place) }
      offset += 1
    }

    mutating func word(_ text: StaticString, _ value: JSON) throws(Malformed) -> JSON {
      for byte in "\(text)".utf8 {
        guard next == byte else {
          throw unexpected("in literal \(text) (expecting \(Self.quoted(byte)))")
        }
        offset += 1
      }
      return value
    }

    mutating func value(depth: Int) throws(Malformed) -> JSON {
      guard let byte = next else { throw unexpected("") }
      guard depth < JSON.depthMax else {
        throw Malformed(offset: offset, text: "exceeded max depth")
      }
      switch byte {
      case 0x6e: return try word("null", .null)
      case 0x74: return try word("true", .bool(true))
      case 0x66: return try word("false", .bool(false))
      case 0x22: return .string(try string())
      case 0x5b: return try array(depth: depth)
      case 0x7b: return try object(depth: depth)
      case 0x2d, 0x30...0x39: return try number()
      default: throw unexpected("looking for beginning of value")
      }
    }

    mutating func array(depth: Int) throws(Malformed) -> JSON {
      var values: [JSON] = []
      offset += 1
      skipBlanks()
      if next == 0x5d {
        offset += 1
        return .array([])
      }
      while true {
        skipBlanks()
        values.append(try value(depth: depth + 1))
        skipBlanks()
        if next == 0x2c {
          offset += 1
          continue
        }
        try expect(0x5d, "after array element")
        return .array(values)
      }
    }

    mutating func object(depth: Int) throws(Malformed) -> JSON {
      var fields: [Field] = []
      offset += 1
      skipBlanks()
      if next == 0x7d {
        offset += 1
        return .object([])
      }
      while true {
        skipBlanks()
        guard next == 0x22 else {
          throw unexpected("looking for beginning of object key string")
        }
        let name = try string()
        skipBlanks()
        try expect(0x3a, "after object key")
        skipBlanks()
        fields.append(Field(name, try value(depth: depth + 1)))
        skipBlanks()
        if next == 0x2c {
          offset += 1
          continue
        }
        try expect(0x7d, "after object key:value pair")
        return .object(fields)
      }
    }

    // MARK: Numbers

    mutating func number() throws(Malformed) -> JSON {
      let start = offset
      if next == 0x2d { offset += 1 }
      if next == 0x30 { offset += 1 } else { try digits("in numeric literal") }
      if next == 0x2e {
        offset += 1
        try digits("after decimal point in numeric literal")
      }
      if next == 0x65 || next == 0x45 {
        offset += 1
        if next == 0x2b || next == 0x2d { offset += 1 }
        try digits("in exponent of numeric literal")
      }
      return .number([UInt8](bytes[start..<offset]))
    }

    /// One digit or more.
    private mutating func digits(_ place: String) throws(Malformed) {
      guard let first = next, first >= 0x30, first <= 0x39 else { throw unexpected(place) }
      while let byte = next, byte >= 0x30, byte <= 0x39 { offset += 1 }
    }

    // MARK: Strings

    mutating func string() throws(Malformed) -> String {
      offset += 1
      let start = offset
      while let byte = next, byte != 0x22, byte != 0x5c, byte >= 0x20 { offset += 1 }
      if next == 0x22 {
        defer { offset += 1 }
        return String(decoding: bytes[start..<offset], as: UTF8.self)
      }
      var text = [UInt8](bytes[start..<offset])
      while let byte = next {
        switch byte {
        case 0x22:
          offset += 1
          return String(decoding: text, as: UTF8.self)
        case 0..<0x20: throw unexpected("in string literal")
        case 0x5c:
          offset += 1
          try escape(into: &text)
        default:
          offset += 1
          text.append(byte)
        }
      }
      throw unexpected("")
    }

    mutating func escape(into text: inout [UInt8]) throws(Malformed) {
      guard let byte = next else { throw unexpected("") }
      switch byte {
      case 0x22, 0x5c, 0x2f: text.append(byte)
      case 0x62: text.append(0x08)
      case 0x66: text.append(0x0c)
      case 0x6e: text.append(0x0a)
      case 0x72: text.append(0x0d)
      case 0x74: text.append(0x09)
      case 0x75:
        offset += 1
        return try unicode(into: &text)
      default: throw unexpected("in string escape code")
      }
      offset += 1
    }

    /// A lone surrogate becomes the replacement character, as in Go.
    private mutating func unicode(into text: inout [UInt8]) throws(Malformed) {
      let unit = try codeUnit()
      var scalar = UInt32(unit)
      let isHigh = unit >= 0xd800 && unit < 0xdc00
      if isHigh, offset + 1 < bytes.count, bytes[offset] == 0x5c, bytes[offset + 1] == 0x75 {
        let mark = offset
        offset += 2
        let low = try codeUnit()
        if low >= 0xdc00, low < 0xe000 {
          scalar = 0x10000 + (UInt32(unit) - 0xd800) << 10 + (UInt32(low) - 0xdc00)
        } else {
          offset = mark
        }
      }
      text.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{fffd}").utf8)
    }

    mutating func codeUnit() throws(Malformed) -> UInt16 {
      var unit: UInt16 = 0
      for _ in 0..<4 {
        guard let byte = next, let digit = Hex.digit(byte) else {
          throw unexpected("in \\u hexadecimal character escape")
        }
        unit = unit << 4 | UInt16(digit)
        offset += 1
      }
      return unit
    }
  }
}
