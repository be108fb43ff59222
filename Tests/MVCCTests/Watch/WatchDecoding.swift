import Basics
import MVCC

/// A `WatchResponse` read back by a reader of its own.
struct DecodedResponse {
  var revision: UInt64 = 0
  var clusterID: UInt64 = 0
  var memberID: UInt64 = 0
  var raftTerm: UInt64 = 0
  var watchID: Int64 = 0
  var created = false
  var canceled = false
  var compactRevision: UInt64 = 0
  var reason = ""
  var fragment = false
  var events: [DecodedEvent] = []

  init(_ bytes: [UInt8]) {
    for field in fields(bytes) {
      switch field.number {
      case 1:
        for inner in fields(field.bytes) {
          switch inner.number {
          case 1: clusterID = inner.value
          case 2: memberID = inner.value
          case 3: revision = inner.value
          default: raftTerm = inner.value
          }
        }
      case 2: watchID = Int64(bitPattern: field.value)
      case 3: created = field.value == 1
      case 4: canceled = field.value == 1
      case 5: compactRevision = field.value
      case 6: reason = String(decoding: field.bytes, as: UTF8.self)
      case 7: fragment = field.value == 1
      case 11: events.append(DecodedEvent(field.bytes))
      default: fatalError("field \(field.number)")
      }
    }
  }
}

struct DecodedEvent: Equatable {
  var isDelete = false
  var key: [UInt8] = []
  var modRevision: Int64 = 0
  var value: [UInt8] = []
  var previous: [UInt8]?

  init(_ bytes: [UInt8]) {
    for field in fields(bytes) {
      switch field.number {
      case 1: isDelete = field.value == 1
      case 2:
        for inner in fields(field.bytes) {
          switch inner.number {
          case 1: key = inner.bytes
          case 3: modRevision = Int64(inner.value)
          case 5: value = inner.bytes
          default: break
          }
        }
      case 3: previous = field.bytes
      default: fatalError("field \(field.number)")
      }
    }
  }
}

func fields(_ bytes: [UInt8]) -> [(number: Int, value: UInt64, bytes: [UInt8])] {
  var at = 0
  func varint() -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte = bytes[at]
      at += 1
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
  }
  var found: [(Int, UInt64, [UInt8])] = []
  while at < bytes.count {
    let tag = varint()
    let value = varint()
    guard tag & 7 == 2 else {
      found.append((Int(tag >> 3), value, []))
      continue
    }
    found.append((Int(tag >> 3), 0, Array(bytes[at..<at + Int(value)])))
    at += Int(value)
  }
  return found
}

/// A store as far as a hub needs one: all changes since revision 1, and what is compacted.
struct WatchStore {
  struct Change {
    var revision: Revision
    var isDelete: Bool
    var key: [UInt8]
    var create: Int64
    var row: [UInt8]
  }

  var changes: [Change] = []
  var revision: Int64 = 1
  var compactRevision: Int64 = 0

  static func row(_ key: [UInt8], create: Int64, mod: Int64, value: [UInt8]) -> [UInt8] {
    func varint(_ value: Int64) -> [UInt8] {
      var rest = UInt64(value)
      var bytes: [UInt8] = []
      while rest >= 0x80 {
        bytes.append(UInt8(rest & 0x7f) | 0x80)
        rest >>= 7
      }
      return bytes + [UInt8(rest)]
    }
    return [0x0a] + varint(Int64(key.count)) + key + [0x10] + varint(create) + [0x18]
      + varint(mod) + [0x2a] + varint(Int64(value.count)) + value
  }

  /// One transaction. A nil value deletes; deletes of keys that do not live are left out.
  mutating func write(_ writes: [(key: [UInt8], value: [UInt8]?)]) {
    var sub: Int64 = 0
    for (key, value) in writes {
      let last = changes.last { $0.key == key }
      let isLive = last.map { !$0.isDelete } ?? false
      let at = Revision(main: revision + 1, sub: sub)
      if let value {
        let create = isLive ? last!.create : at.main
        changes.append(
          Change(
            revision: at, isDelete: false, key: key, create: create,
            row: Self.row(key, create: create, mod: at.main, value: value)))
      } else if isLive {
        changes.append(
          Change(
            revision: at, isDelete: true, key: key, create: 0,
            row: [0x0a, UInt8(key.count)] + key))
      } else {
        continue
      }
      sub += 1
    }
    if sub > 0 { revision += 1 }
  }

  func batch(from: Int64, to: Int64) -> EventBatch {
    var batch = EventBatch()
    for change in changes where (from...max(from, to)).contains(change.revision.main) {
      let isTaken =
        change.isDelete
        ? batch.appendDelete(row: change.row.rawSpan, at: change.revision)
        : batch.appendPut(change.row.rawSpan, at: change.revision)
      precondition(isTaken)
    }
    return batch
  }

  func previous(_ key: [UInt8], at revision: Int64) -> [UInt8]? {
    guard revision >= compactRevision else { return nil }
    let last = changes.last { $0.key == key && $0.revision.main <= revision }
    return last.flatMap { $0.isDelete ? nil : $0.row }
  }
}

extension WatchHub {
  /// Takes everything, after looking up previous values.
  mutating func drain(_ store: WatchStore, bytesMax: Int = .max) -> [(UInt64, DecodedResponse)] {
    while let request = nextPrevious() {
      if let row = store.previous(request.key, at: request.revision) {
        resolve(request, row.rawSpan)
      } else {
        resolve(request, nil)
      }
    }
    var output = WatchOutput()
    takeResponses(
      WatchIdentity(clusterID: 1 << 63, memberID: 2, raftTerm: 3), into: &output,
      bytesMax: bytesMax)
    return output.messages.map {
      ($0.stream.rawValue, DecodedResponse(Array(output.arena[$0.message.range])))
    }
  }

  /// Feeds until no watcher with room is behind.
  mutating func catchUp(_ store: WatchStore, revisionsMax: Int64 = .max, steps: Int = .max) {
    var left = steps
    while left > 0, let step = nextCatchUp() {
      left -= 1
      let through = step.to - step.from < revisionsMax ? step.to : step.from + revisionsMax - 1
      feed(store.batch(from: step.from, to: through), of: step, through: through)
    }
  }
}
