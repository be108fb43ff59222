public import Basics

/// An encoded `mvccpb.KeyValue`, read in place: {key=1, create_revision=2, mod_revision=3,
/// version=4, value=5, lease=6}.
public struct KeyValueBytes: Sendable {
  public var key = Slice.empty
  public var createRevision: Int64 = 0
  public var modRevision: Int64 = 0
  public var version: Int64 = 0
  public var value = Slice.empty
  public var lease: Int64 = 0
  /// From the tag of the value field to its end; empty when there is none.
  public var valueField = Slice.empty

  /// Nil when the bytes are not such a message. Unknown fields are passed over.
  public init?(_ bytes: RawSpan) {
    var at = 0
    while at < bytes.byteCount {
      let start = at
      guard let tag = bytes.varint(at: &at) else { return nil }
      switch tag & 7 {
      case 0:
        guard let number = bytes.varint(at: &at) else { return nil }
        set(tag >> 3, Int64(bitPattern: number))
      case 2:
        guard let length = bytes.varint(at: &at), length <= UInt64(bytes.byteCount - at) else {
          return nil
        }
        let slice = Slice(start: at, count: Int(length))
        at += Int(length)
        if tag >> 3 == 1 { key = slice }
        if tag >> 3 == 5 {
          value = slice
          valueField = Slice(start: start, count: at - start)
        }
      case 1, 5:
        at += tag & 7 == 1 ? 8 : 4
        guard at <= bytes.byteCount else { return nil }
      default: return nil
      }
    }
  }

  private mutating func set(_ field: UInt64, _ number: Int64) {
    switch field {
    case 2: createRevision = number
    case 3: modRevision = number
    case 4: version = number
    case 6: lease = number
    default: break
    }
  }

  /// Appends the message as gogo-protobuf writes it: fields in order, zeros left out.
  static func append(
    key: RawSpan, value: RawSpan, hit: KeyIndex.Hit, lease: LeaseID, to bytes: inout [UInt8]
  ) {
    appendKey(key, to: &bytes)
    appendNumber(0x10, hit.created.main, to: &bytes)
    appendNumber(0x18, hit.modified.main, to: &bytes)
    appendNumber(0x20, hit.version, to: &bytes)
    if value.byteCount > 0 {
      bytes.append(0x2a)
      bytes.appendVarint(UInt64(value.byteCount))
      bytes.append(contentsOf: value)
    }
    appendNumber(0x30, lease.rawValue, to: &bytes)
  }

  static func appendKey(_ key: RawSpan, to bytes: inout [UInt8]) {
    guard key.byteCount > 0 else { return }
    bytes.append(0x0a)
    bytes.appendVarint(UInt64(key.byteCount))
    bytes.append(contentsOf: key)
  }

  private static func appendNumber(_ tag: UInt8, _ number: Int64, to bytes: inout [UInt8]) {
    guard number != 0 else { return }
    bytes.append(tag)
    bytes.appendVarint(UInt64(bitPattern: number))
  }
}
