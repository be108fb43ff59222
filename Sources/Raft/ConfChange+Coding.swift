internal import Basics

/// The bytes of conf-change entries: protobuf as raftpb declares them.
extension ConfChange {
  /// Reads the data of an entry of kind `confChange` or `confChangeV2`.
  public init(kind: EntryKind, data: [UInt8]) throws(ConfChangeError) {
    self = .leaveJoint
    var reader = FieldReader(bytes: data)
    switch kind {
    case .normal: throw .malformed
    case .confChange: changes = [try readVersion1(&reader)]
    case .confChangeV2: try readVersion2(&reader)
    }
  }

  /// The data of an entry of the given kind; version 1 has room for exactly one change.
  public func encoded(as kind: EntryKind) -> [UInt8] {
    var out: [UInt8] = []
    switch kind {
    case .normal:
      preconditionFailure("a normal entry holds no membership change")
    case .confChange:
      precondition(changes.count == 1 && transition == .auto)
      put(field: 1, id, to: &out)
      put(field: 2, UInt64(changes[0].action.rawValue), to: &out)
      put(field: 3, changes[0].node.rawValue, to: &out)
      if !context.isEmpty { put(field: 4, context, to: &out) }
    case .confChangeV2:
      put(field: 1, UInt64(transition.rawValue), to: &out)
      for single in changes {
        var inner: [UInt8] = []
        put(field: 1, UInt64(single.action.rawValue), to: &inner)
        put(field: 2, single.node.rawValue, to: &inner)
        put(field: 2, inner, to: &out)
      }
      if !context.isEmpty { put(field: 3, context, to: &out) }
    }
    return out
  }

  private mutating func readVersion1(_ reader: inout FieldReader) throws(ConfChangeError)
    -> Single
  {
    var single = Single(.addVoter, .none)
    while let field = try reader.next() {
      switch field {
      case .number(1, let value): id = value
      case .number(2, let value): single.action = try Action(wire: value)
      case .number(3, let value): single.node = NodeID(value)
      case .bytes(4, let value): context = value
      default: break
      }
    }
    return single
  }

  private mutating func readVersion2(_ reader: inout FieldReader) throws(ConfChangeError) {
    while let field = try reader.next() {
      switch field {
      case .number(1, let value):
        guard let known = UInt8(exactly: value).flatMap(Transition.init(rawValue:)) else {
          throw .malformed
        }
        transition = known
      case .bytes(2, let value):
        var inner = FieldReader(bytes: value)
        var single = Single(.addVoter, .none)
        while let field = try inner.next() {
          switch field {
          case .number(1, let value): single.action = try Action(wire: value)
          case .number(2, let value): single.node = NodeID(value)
          default: break
          }
        }
        changes.append(single)
      case .bytes(3, let value): context = value
      default: break
      }
    }
  }
}

extension ConfChange.Action {
  fileprivate init(wire: UInt64) throws(ConfChangeError) {
    guard let known = UInt8(exactly: wire).flatMap(ConfChange.Action.init(rawValue:)) else {
      throw .malformed
    }
    self = known
  }
}

private func put(varint: UInt64, to out: inout [UInt8]) {
  var rest = varint
  while rest >= 0x80 {
    out.append(UInt8(truncatingIfNeeded: rest) | 0x80)
    rest >>= 7
  }
  out.append(UInt8(rest))
}

private func put(field: UInt64, _ value: UInt64, to out: inout [UInt8]) {
  put(varint: field << 3, to: &out)
  put(varint: value, to: &out)
}

private func put(field: UInt64, _ bytes: [UInt8], to out: inout [UInt8]) {
  put(varint: field << 3 | 2, to: &out)
  put(varint: UInt64(bytes.count), to: &out)
  out.append(contentsOf: bytes)
}

/// Walks the fields of one protobuf message; every length is checked.
private struct FieldReader {
  enum Field {
    case number(UInt64, UInt64)
    case bytes(UInt64, [UInt8])
  }

  let bytes: [UInt8]
  var offset = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func next() throws(ConfChangeError) -> Field? {
    guard offset < bytes.count else { return nil }
    let tag = try varint()
    switch tag & 7 {
    case 0: return .number(tag >> 3, try varint())
    case 2: return .bytes(tag >> 3, try take(varint()))
    case 1: return .bytes(tag >> 3 | 1 << 61, try take(8))
    case 5: return .bytes(tag >> 3 | 1 << 61, try take(4))
    default: throw .malformed
    }
  }

  private mutating func take(_ count: UInt64) throws(ConfChangeError) -> [UInt8] {
    guard count <= UInt64(bytes.count - offset) else { throw .malformed }
    defer { offset += Int(count) }
    return [UInt8](bytes[offset..<offset + Int(count)])
  }

  private mutating func varint() throws(ConfChangeError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while offset < bytes.count, shift < 64 {
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    throw .malformed
  }
}
