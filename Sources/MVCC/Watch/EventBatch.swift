public import Basics

/// The changes of one or more transactions, in revision order, as watchers get them.
///
/// One arena holds all bytes; an event names its stretches of it. The key lies inside the encoded
/// `mvccpb.KeyValue`, so that nothing is held twice. The arena is limited to 4 GiB by `Slice`; who
/// fills a batch bounds it far below that.
public struct EventBatch: Sendable {
  /// etcd: `mvccpb.Event.EventType`, same numbers.
  public enum Kind: UInt8, Sendable {
    case put = 0
    case delete = 1
  }

  /// One change of one key.
  public struct Event: Sendable {
    public var kind: Kind
    /// The put that made the key: there is no previous value.
    public var isCreate: Bool
    public var revision: Revision
    /// The key, in the arena.
    public var key: Slice
    /// The encoded `mvccpb.KeyValue` of the event, in the arena. Of a delete: key and mod_revision.
    public var keyValue: Slice
  }

  /// The bytes that the slices of `events` name.
  public private(set) var arena: [UInt8] = []
  /// In ascending order of revision.
  public private(set) var events: [Event] = []

  public init() {}

  public var isEmpty: Bool { events.isEmpty }
  /// The main revision of the first event; 0 when empty.
  public var firstRevision: Int64 { events.first?.revision.main ?? 0 }
  /// The main revision of the last event; 0 when empty.
  public var lastRevision: Int64 { events.last?.revision.main ?? 0 }

  /// Adds a put. `keyValue` is an encoded `mvccpb.KeyValue` as the backend holds it: it is read for
  /// the key and the create revision. False, and nothing added, when it is not one.
  public mutating func appendPut(_ keyValue: RawSpan, at revision: Revision) -> Bool {
    guard let fields = KeyValueFields(keyValue) else { return false }
    let start = arena.count
    arena.append(contentsOf: keyValue)
    add(
      Event(
        kind: .put, isCreate: fields.createRevision == revision.main, revision: revision,
        key: Slice(start: start + Int(fields.key.start), count: Int(fields.key.count)),
        keyValue: Slice(start: start, count: keyValue.byteCount)))
    return true
  }

  /// Adds a delete of `key`. etcd: a `KeyValue` of key and mod_revision only.
  public mutating func appendDelete(_ key: RawSpan, at revision: Revision) {
    let start = arena.count
    arena.append(0x0a)
    arena.appendVarint(UInt64(key.byteCount))
    let keyStart = arena.count
    arena.append(contentsOf: key)
    arena.append(0x18)
    arena.appendVarint(UInt64(bitPattern: revision.main))
    add(
      Event(
        kind: .delete, isCreate: false, revision: revision,
        key: Slice(start: keyStart, count: key.byteCount),
        keyValue: Slice(start: start, count: arena.count - start)))
  }

  /// Adds a delete from the row of a tombstone: an encoded `mvccpb.KeyValue` that holds the key.
  /// False, and nothing added, when it is not one.
  public mutating func appendDelete(row keyValue: RawSpan, at revision: Revision) -> Bool {
    guard let fields = KeyValueFields(keyValue) else { return false }
    appendDelete(keyValue.extracting(fields.key), at: revision)
    return true
  }

  /// Empties the batch and keeps its memory.
  public mutating func removeAll() {
    arena.removeAll(keepingUpTo: 4 << 20)
    events.removeAll(keepingUpTo: 65_536)
  }

  private mutating func add(_ event: Event) {
    precondition(events.isEmpty || events[events.count - 1].revision < event.revision)
    events.append(event)
  }
}

/// What an event needs of an encoded `mvccpb.KeyValue` {key=1, create_revision=2, …, value=5}.
struct KeyValueFields {
  var key = Slice.empty
  var createRevision: Int64 = 0

  /// Nil when the bytes are not a message. Unknown fields are passed over; reading stops at the
  /// value, which the encoders write after these fields.
  init?(_ bytes: RawSpan) {
    var at = 0
    while at < bytes.byteCount {
      guard let tag = bytes.varint(at: &at) else { return nil }
      switch tag & 7 {
      case 0:
        guard let value = bytes.varint(at: &at) else { return nil }
        if tag >> 3 == 2 { createRevision = Int64(bitPattern: value) }
      case 1:
        guard bytes.byteCount - at >= 8 else { return nil }
        at += 8
      case 2:
        guard let length = bytes.varint(at: &at), length <= UInt64(bytes.byteCount - at) else {
          return nil
        }
        if tag >> 3 == 1 { key = Slice(start: at, count: Int(length)) }
        at += Int(length)
        if tag >> 3 == 5 && !key.isEmpty { return }
      case 5:
        guard bytes.byteCount - at >= 4 else { return nil }
        at += 4
      default: return nil
      }
    }
  }
}

extension RawSpan {
  /// The base-128 varint at `at`, which moves behind it. Nil when it is cut short or over 10 bytes.
  func varint(at: inout Int) -> UInt64? {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while at < byteCount && shift < 70 {
      let byte = self[at]
      at += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
    return nil
  }
}

extension [UInt8] {
  /// Adds `value` as a base-128 varint.
  mutating func appendVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    append(UInt8(truncatingIfNeeded: rest))
  }
}
