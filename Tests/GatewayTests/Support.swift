import API
import Basics
import Gateway

func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }
func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// What the gateway makes of `json` as `name`.
func wire(_ json: String, as name: String) throws(BadRequest) -> [UInt8] {
  try encodeBody(bytes(json), as: name)
}

func json(_ wire: [UInt8], as name: String) throws -> String {
  var out: [UInt8] = []
  try appendJSON(wire.rawSpan, as: name, to: &out)
  return text(out)
}

func encoded(_ body: (inout [UInt8]) -> Void) -> [UInt8] {
  var bytes: [UInt8] = []
  body(&bytes)
  return bytes
}

extension Random {
  mutating func number() -> UInt64 {
    switch next(below: 4) {
    case 0: 0
    case 1: UInt64(next(below: 300))
    case 2: .max
    default: next() >> UInt64(next(below: 64))
    }
  }

  mutating func string() -> String {
    let pieces = ["a", "é", "\"", "\\", "\n", "\u{1}", "<&>", "\u{2028}", "😀", "/", "日本"]
    return (0..<next(below: 4)).map { _ in pieces[next(below: pieces.count)] }.joined()
  }

  mutating func blob() -> [UInt8] {
    (0..<[0, 1, 2, 3, 50][next(below: 5)]).map { _ in UInt8(truncatingIfNeeded: next()) }
  }

  /// A message of any shape, in the one form that protobuf's encoders give it.
  mutating func message(_ shape: MessageShape, depth: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    var unions: [Int: Int] = [:]
    let count = shape.fieldCount
    for place in 0..<count {
      guard let union = shape.field(at: place).union else { continue }
      // One member of each union, or none.
      if unions[union] == nil || chance(1, in: 3) { unions[union] = place }
    }
    for place in 0..<count {
      let field = shape.field(at: place)
      if let union = field.union, unions[union] != place { continue }
      if chance(1, in: 3) { continue }
      append(field, to: &bytes, depth: depth)
    }
    return bytes
  }

  private mutating func append(_ field: FieldShape, to bytes: inout [UInt8], depth: Int) {
    let count = field.isRepeated ? next(below: 4) : 1
    switch field.kind {
    case .message:
      guard depth > 0 else { return }
      for _ in 0..<count {
        let inner = message(field.message, depth: depth - 1)
        bytes.appendMessage(field.number, inner.rawSpan)
      }
    case .string, .bytes:
      for _ in 0..<count {
        let value = field.kind == .bytes ? blob() : [UInt8](string().utf8)
        if field.isRepeated || field.hasPresence || !value.isEmpty {
          bytes.appendMessage(field.number, value.rawSpan)
        }
      }
    default:
      let values = (0..<count).map { _ in number(field) }
      if field.isRepeated, field.isPacked {
        guard !values.isEmpty else { return }
        let mark = bytes.beginField(field.number, expecting: 0)
        for value in values { bytes.appendVarint(value) }
        bytes.endField(mark)
        return
      }
      for value in values where value != 0 || field.isRepeated || field.hasPresence {
        bytes.appendAlways(field.number, value)
      }
    }
  }

  private mutating func number(_ field: FieldShape) -> UInt64 {
    let value = number()
    switch field.kind {
    case .bool: return value & 1
    case .int32, .enumeration:
      return UInt64(bitPattern: Int64(Int32(truncatingIfNeeded: value)))
    case .uint32: return UInt64(UInt32(truncatingIfNeeded: value))
    default: return value
    }
  }
}
