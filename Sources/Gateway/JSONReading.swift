internal import API
public import Basics

/// Why a request's JSON is not the message that it should be, in the words that etcd's gateway
/// has for it.
public struct BadRequest: Error, Equatable, Sendable {
  public var text: String

  public init(saying text: String) { self.text = text }

}

/// The wire form of the message called `name` that `json` describes, by proto3's mapping as
/// grpc-gateway v1 reads it: fields by their own or their JSON name, unknown ones passed over,
/// `null` as if absent, 64-bit numbers as strings or numbers, enums by name or number, bytes in
/// base64. The last of several fields of a union wins. etcd: golang/protobuf `jsonpb`.
public func encode(_ json: JSON, as name: String) throws(BadRequest) -> [UInt8] {
  guard let shape = MessageShape(named: name) else {
    preconditionFailure("there is no message \(name)")
  }
  var bytes: [UInt8] = []
  if json != .null { try append(json, shape, to: &bytes, depth: 1) }
  return bytes
}

private func append(
  _ json: JSON, _ shape: MessageShape, to bytes: inout [UInt8], depth: Int
) throws(BadRequest) {
  guard case .object(let members) = json else {
    throw mismatch(json, "map[string]json.RawMessage")
  }
  guard depth <= MessageLimits.depthMax else { throw BadRequest(saying: "exceeded max depth") }
  for (field, value) in fields(members, shape) {
    if field.isRepeated {
      try appendList(value, field, to: &bytes, depth: depth)
    } else {
      try append(value, field, to: &bytes, depth: depth)
    }
  }
}

/// The message's fields that the object has, in the order of their numbers.
private func fields(
  _ members: [JSON.Field], _ shape: MessageShape
) -> [(FieldShape, JSON)] {
  var found: [(FieldShape, JSON)] = []
  for place in 0..<shape.fieldCount {
    let field = shape.field(at: place)
    let name = field.name
    let jsonName = field.jsonName
    var value = members.last { $0.name == name }?.value
    if jsonName != name, let other = members.last(where: { $0.name == jsonName }) {
      value = other.value
    }
    guard let value, value != .null else { continue }
    if let union = field.union { found.removeAll { $0.0.union == union } }
    found.append((field, value))
  }
  return found
}

private func appendList(
  _ json: JSON, _ field: FieldShape, to bytes: inout [UInt8], depth: Int
) throws(BadRequest) {
  guard case .array(let elements) = json else { throw mismatch(json, "[]json.RawMessage") }
  switch field.kind {
  case .message:
    for element in elements {
      let mark = bytes.beginField(field.number, expecting: 0)
      if element != .null { try append(element, field.message, to: &bytes, depth: depth + 1) }
      bytes.endField(mark)
    }
  case .string, .bytes:
    for element in elements {
      let content = element == .null ? [] : try content(element, field)
      bytes.appendMessage(field.number, content.rawSpan)
    }
  default:
    guard !elements.isEmpty else { return }
    let mark = field.isPacked ? bytes.beginField(field.number, expecting: 0) : nil
    for element in elements {
      let value = element == .null ? 0 : try number(element, field)
      if field.isPacked {
        bytes.appendVarint(value)
      } else {
        bytes.appendAlways(field.number, value)
      }
    }
    if let mark { bytes.endField(mark) }
  }
}

private func append(
  _ json: JSON, _ field: FieldShape, to bytes: inout [UInt8], depth: Int
) throws(BadRequest) {
  switch field.kind {
  case .message:
    let mark = bytes.beginField(field.number, expecting: 0)
    try append(json, field.message, to: &bytes, depth: depth + 1)
    bytes.endField(mark)
  case .string, .bytes:
    let content = try content(json, field)
    if field.hasPresence || !content.isEmpty {
      bytes.appendMessage(field.number, content.rawSpan)
    }
  default:
    let value = try number(json, field)
    if field.hasPresence || value != 0 { bytes.appendAlways(field.number, value) }
  }
}

// MARK: Values

private func content(_ json: JSON, _ field: FieldShape) throws(BadRequest) -> [UInt8] {
  if case .array(let elements) = json, field.kind == .bytes {
    // Go's decoder takes a list of numbers too.
    var bytes: [UInt8] = []
    for element in elements { bytes.append(try integer(element, UInt8.self, "uint8")) }
    return bytes
  }
  guard case .string(let text) = json else {
    throw mismatch(json, field.kind == .bytes ? "[]uint8" : "string")
  }
  guard field.kind == .bytes else { return [UInt8](text.utf8) }
  do throws(Base64.IllegalInput) {
    return try Base64.decode(lenient: [UInt8](text.utf8))
  } catch {
    throw BadRequest(saying: "illegal base64 data at input byte \(error.place)")
  }
}

/// A number as it stands on the wire.
private func number(_ json: JSON, _ field: FieldShape) throws(BadRequest) -> UInt64 {
  switch field.kind {
  case .bool:
    guard case .bool(let value) = json else { throw mismatch(json, "bool") }
    return value ? 1 : 0
  case .enumeration:
    if case .string(let name) = json {
      guard let value = field.enumValue(named: name) else {
        let shown = goQuoted(goQuoted(name))
        throw BadRequest(saying: "unknown value \(shown) for enum \(field.enumName)")
      }
      return UInt64(bitPattern: Int64(value))
    }
    return UInt64(bitPattern: Int64(try integer(json, Int32.self, "protoreflect.EnumNumber")))
  case .int32: return UInt64(bitPattern: Int64(try integer(json, Int32.self, "int32")))
  case .int64: return UInt64(bitPattern: try integer(json, Int64.self, "int64"))
  case .uint32: return UInt64(try integer(json, UInt32.self, "uint32"))
  case .uint64: return try integer(json, UInt64.self, "uint64")
  case .string, .bytes, .message: preconditionFailure("not a number")
  }
}

/// A whole number; one in a string is read as if it stood there without the quotes.
private func integer<T: FixedWidthInteger>(
  _ json: JSON, _ type: T.Type, _ name: String
) throws(BadRequest) -> T {
  var json = json
  if case .string(let text) = json {
    do throws(JSON.Malformed) {
      json = try JSON.parse([UInt8](text.utf8))
    } catch {
      let isCut = error.text == "unexpected EOF"
      throw BadRequest(saying: isCut ? "unexpected end of JSON input" : error.text)
    }
  }
  switch json {
  case .null: return 0
  case .number(let digits):
    let text = String(decoding: digits, as: UTF8.self)
    guard let value = T(text) else {
      throw BadRequest(
        saying: "json: cannot unmarshal number \(text) into Go value of type \(name)")
    }
    return value
  default: throw mismatch(json, name)
  }
}

private func mismatch(_ json: JSON, _ type: String) -> BadRequest {
  let kind =
    switch json {
    case .null: "null"
    case .bool: "bool"
    case .number: "number"
    case .string: "string"
    case .array: "array"
    case .object: "object"
    }
  return BadRequest(saying: "json: cannot unmarshal \(kind) into Go value of type \(type)")
}

/// `text` in quotes, with quotes and backslashes escaped.
private func goQuoted(_ text: String) -> String {
  var quoted = "\""
  for character in text {
    if character == "\"" || character == "\\" { quoted += "\\" }
    quoted.append(character)
  }
  return quoted + "\""
}
