internal import API
internal import Basics

/// Appends the message called `name` that `wire` holds as JSON, as grpc-gateway v1 writes it:
/// fields by their own names in the order of their numbers, without those that are empty; 64-bit
/// numbers as strings, bytes in base64, enums by name. Throws for bytes that are no such message.
/// One pass; allocates nothing when the fields stand in order, as this server writes them.
public func appendJSON(
  _ wire: RawSpan, as name: String, to text: inout [UInt8]
) throws(Unreadable) {
  guard let shape = MessageShape(named: name) else {
    preconditionFailure("there is no message \(name)")
  }
  do throws(DecodeError) {
    let whole = Slice(start: 0, count: wire.byteCount)
    try append(wire, whole, shape, to: &text, depth: 1)
  } catch {
    throw Unreadable()
  }
}

/// Bytes that are not the message that they were taken for.
public struct Unreadable: Error, Sendable {}

private func append(
  _ wire: RawSpan, _ slice: Slice, _ shape: MessageShape, to text: inout [UInt8], depth: Int
) throws(DecodeError) {
  guard depth <= MessageLimits.depthMax else { throw DecodeError(.tooDeep, at: Int(slice.start)) }
  guard try isOrdered(wire, slice, shape) else {
    let ordered = try ordered(wire, slice, shape)
    let whole = Slice(start: 0, count: ordered.count)
    return try append(ordered.rawSpan, whole, shape, to: &text, depth: depth)
  }
  text.append(UInt8(ascii: "{"))
  var isFirst = true
  var open: Int?
  var reader = ProtoReader(wire, in: slice)
  while let tag = try reader.nextTag() {
    guard let field = shape.field(number: tag.field) else {
      try reader.skip(tag)
      continue
    }
    if let number = open, number != tag.field {
      text.append(UInt8(ascii: "]"))
      open = nil
    }
    if field.isRepeated {
      try appendElement(wire, tag, field, &reader, &open, &isFirst, to: &text, depth: depth)
      continue
    }
    if field.kind.isNumeric {
      let value = try reader.uint64(tag)
      guard value != 0 || field.hasPresence else { continue }
      begin(field, &isFirst, to: &text)
      append(value, field, to: &text)
    } else {
      let content = try reader.bytes(tag)
      guard !content.isEmpty || field.hasPresence || field.kind == .message else { continue }
      begin(field, &isFirst, to: &text)
      try append(wire, content, field, to: &text, depth: depth)
    }
  }
  if open != nil { text.append(UInt8(ascii: "]")) }
  text.append(UInt8(ascii: "}"))
}

/// One element of a repeated field, or several packed ones; opens the array before the first.
private func appendElement(
  _ wire: RawSpan, _ tag: ProtoTag, _ field: FieldShape, _ reader: inout ProtoReader,
  _ open: inout Int?, _ isFirst: inout Bool, to text: inout [UInt8], depth: Int
) throws(DecodeError) {
  func separate() {
    if open == nil {
      begin(field, &isFirst, to: &text)
      text.append(UInt8(ascii: "["))
      open = tag.field
    } else {
      text.append(UInt8(ascii: ","))
    }
  }
  guard field.kind.isNumeric else {
    let content = try reader.bytes(tag)
    separate()
    return try append(wire, content, field, to: &text, depth: depth)
  }
  guard tag.wire == .lengthDelimited else {
    let value = try reader.uint64(tag)
    separate()
    return append(value, field, to: &text)
  }
  var packed = ProtoReader(wire, in: try reader.bytes(tag))
  while !packed.isAtEnd {
    let value = try packed.varint()
    separate()
    append(value, field, to: &text)
  }
}

private func begin(_ field: FieldShape, _ isFirst: inout Bool, to text: inout [UInt8]) {
  if !isFirst { text.append(UInt8(ascii: ",")) }
  isFirst = false
  text.append(UInt8(ascii: "\""))
  field.appendName(to: &text)
  text.append(UInt8(ascii: "\""))
  text.append(UInt8(ascii: ":"))
}

private func append(
  _ wire: RawSpan, _ content: Slice, _ field: FieldShape, to text: inout [UInt8], depth: Int
) throws(DecodeError) {
  switch field.kind {
  case .message: try append(wire, content, field.message, to: &text, depth: depth + 1)
  case .string:
    let string = String(decoding: wire.extracting(content).copied(), as: UTF8.self)
    JSON.encode(string, into: &text)
  default:
    text.append(UInt8(ascii: "\""))
    Base64.encode(wire.extracting(content), into: &text)
    text.append(UInt8(ascii: "\""))
  }
}

private func append(_ value: UInt64, _ field: FieldShape, to text: inout [UInt8]) {
  switch field.kind {
  case .bool: text.append(contentsOf: value != 0 ? [UInt8]("true") : [UInt8]("false"))
  case .int32: append(Int64(Int32(truncatingIfNeeded: value)), to: &text)
  case .uint32: append(Int64(UInt32(truncatingIfNeeded: value)), to: &text)
  case .int64:
    text.append(UInt8(ascii: "\""))
    append(Int64(bitPattern: value), to: &text)
    text.append(UInt8(ascii: "\""))
  case .uint64:
    text.append(UInt8(ascii: "\""))
    text.append(contentsOf: String(value).utf8)
    text.append(UInt8(ascii: "\""))
  case .enumeration:
    let number = Int32(truncatingIfNeeded: value)
    if let name = field.enumName(of: number) {
      JSON.encode(name, into: &text)
    } else {
      append(Int64(number), to: &text)
    }
  case .string, .bytes, .message: preconditionFailure("not a number")
  }
}

private func append(_ value: Int64, to text: inout [UInt8]) {
  text.append(contentsOf: String(value).utf8)
}

extension FieldShape.Kind {
  fileprivate var isNumeric: Bool {
    switch self {
    case .string, .bytes, .message: false
    default: true
    }
  }
}

// MARK: Order

/// Whether the message's known fields stand in the order of their numbers, those that are not
/// repeated once, and of each union one at most.
private func isOrdered(
  _ wire: RawSpan, _ slice: Slice, _ shape: MessageShape
) throws(DecodeError) -> Bool {
  var reader = ProtoReader(wire, in: slice)
  var last = 0
  var union: Int?
  while let tag = try reader.nextTag() {
    try reader.skip(tag)
    if tag.field == last, shape.field(number: last)?.isRepeated ?? true { continue }
    guard tag.field > last else { return false }
    last = tag.field
    guard let mine = shape.field(number: tag.field)?.union else { continue }
    guard mine != union else { return false }
    union = mine
  }
  return true
}

/// The same message with its fields in order: of a field that comes several times the last
/// counts, pieces of a message are joined, as protobuf has it.
private func ordered(
  _ wire: RawSpan, _ slice: Slice, _ shape: MessageShape
) throws(DecodeError) -> [UInt8] {
  var found: [(field: FieldShape, bytes: [UInt8])] = []
  var reader = ProtoReader(wire, in: slice)
  while let tag = try reader.nextTag() {
    try reader.skip(tag)
    guard let field = shape.field(number: tag.field) else { continue }
    let value = wire.extracting(tag.offset..<reader.offset).copied()
    if field.isRepeated {
      found.append((field, value))
      continue
    }
    if let union = field.union {
      found.removeAll { $0.field.union == union && $0.field.number != tag.field }
    }
    if field.kind == .message, let at = found.firstIndex(where: { $0.field.number == tag.field }) {
      let joined = try payload(found[at].bytes) + payload(value)
      found[at].bytes = []
      found[at].bytes.appendMessage(tag.field, joined.rawSpan)
    } else {
      found.removeAll { $0.field.number == tag.field }
      found.append((field, value))
    }
  }
  let places = found.indices.sorted {
    (found[$0].field.number, $0) < (found[$1].field.number, $1)
  }
  return places.reduce(into: []) { $0 += found[$1].bytes }
}

/// What a length-delimited field holds.
private func payload(_ field: [UInt8]) throws(DecodeError) -> [UInt8] {
  let wire = field.rawSpan
  var reader = ProtoReader(wire)
  guard let tag = try reader.nextTag() else { return [] }
  return wire.extracting(try reader.bytes(tag)).copied()
}
