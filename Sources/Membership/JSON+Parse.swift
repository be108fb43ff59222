extension JSON {
  /// Reads one document, blanks around it allowed. Repeated field names are kept.
  public static func parse(_ bytes: [UInt8]) throws(Malformed) -> JSON {
    var reader = Reader(bytes: bytes)
    reader.skipBlanks()
    let value = try reader.value(depth: 0)
    reader.skipBlanks()
    guard reader.offset == bytes.count else { throw Malformed(offset: reader.offset) }
    return value
  }

  private struct Reader {
    let bytes: [UInt8]
    var offset = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var next: UInt8? { offset < bytes.count ? bytes[offset] : nil }

    mutating func skipBlanks() {
      while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 {
        offset += 1
      }
    }

    mutating func expect(_ byte: UInt8) throws(Malformed) {
      guard next == byte else { throw Malformed(offset: offset) }
      offset += 1
    }

    mutating func word(_ text: StaticString, _ value: JSON) throws(Malformed) -> JSON {
      for byte in "\(text)".utf8 { try expect(byte) }
      return value
    }

    mutating func value(depth: Int) throws(Malformed) -> JSON {
      guard depth < JSON.depthMax, let byte = next else { throw Malformed(offset: offset) }
      switch byte {
      case 0x6e: return try word("null", .null)
      case 0x74: return try word("true", .bool(true))
      case 0x66: return try word("false", .bool(false))
      case 0x22: return .string(try string())
      case 0x5b: return try array(depth: depth)
      case 0x7b: return try object(depth: depth)
      case 0x2d, 0x30...0x39: return try number()
      default: throw Malformed(offset: offset)
      }
    }

    mutating func array(depth: Int) throws(Malformed) -> JSON {
      var values: [JSON] = []
      try expect(0x5b)
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
        try expect(0x5d)
        return .array(values)
      }
    }

    mutating func object(depth: Int) throws(Malformed) -> JSON {
      var fields: [Field] = []
      try expect(0x7b)
      skipBlanks()
      if next == 0x7d {
        offset += 1
        return .object([])
      }
      while true {
        skipBlanks()
        let name = try string()
        skipBlanks()
        try expect(0x3a)
        skipBlanks()
        fields.append(Field(name, try value(depth: depth + 1)))
        skipBlanks()
        if next == 0x2c {
          offset += 1
          continue
        }
        try expect(0x7d)
        return .object(fields)
      }
    }

    mutating func number() throws(Malformed) -> JSON {
      let start = offset
      while let byte = next {
        switch byte {
        case 0x30...0x39, 0x2d, 0x2b, 0x2e, 0x45, 0x65: offset += 1
        default: return .number([UInt8](bytes[start..<offset]))
        }
      }
      return .number([UInt8](bytes[start..<offset]))
    }

    mutating func string() throws(Malformed) -> String {
      try expect(0x22)
      var text: [UInt8] = []
      while let byte = next {
        offset += 1
        switch byte {
        case 0x22: return String(decoding: text, as: UTF8.self)
        case 0..<0x20: throw Malformed(offset: offset - 1)
        case 0x5c: try escape(into: &text)
        default: text.append(byte)
        }
      }
      throw Malformed(offset: offset)
    }

    mutating func escape(into text: inout [UInt8]) throws(Malformed) {
      guard let byte = next else { throw Malformed(offset: offset) }
      offset += 1
      switch byte {
      case 0x22, 0x5c, 0x2f: text.append(byte)
      case 0x62: text.append(0x08)
      case 0x66: text.append(0x0c)
      case 0x6e: text.append(0x0a)
      case 0x72: text.append(0x0d)
      case 0x74: text.append(0x09)
      case 0x75:
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
        // A lone surrogate becomes the replacement character, as in Go.
        text.append(contentsOf: String(Unicode.Scalar(scalar) ?? "\u{fffd}").utf8)
      default: throw Malformed(offset: offset - 1)
      }
    }

    mutating func codeUnit() throws(Malformed) -> UInt16 {
      var unit: UInt16 = 0
      for _ in 0..<4 {
        guard let byte = next, let digit = Hex.digit(byte) else { throw Malformed(offset: offset) }
        unit = unit << 4 | UInt16(digit)
        offset += 1
      }
      return unit
    }
  }
}

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
