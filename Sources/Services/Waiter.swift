internal import API
internal import Basics
internal import Replica

/// The course of a Lock, an election call or an Observe: what it is waiting for, and what it
/// has learnt so far. etcd runs these as clients of its own: client/v3/concurrency.
struct Waiter {
  enum Kind {
    case lock, campaign, unlock, proclaim, resign, leader, observe
  }

  enum Stage {
    /// A lease of its own.
    case granting
    /// The transaction that puts its key, unless it is there.
    case acquiring
    /// Campaign: the proclaiming of another value over an older key of its own.
    case proclaiming
    /// The range over older keys.
    case searching
    /// The deletion of the key in `awaited`.
    case awaitingDelete
    /// Lock: whether its own key is still there.
    case confirming
    /// The one request of Unlock, Proclaim, Resign or Leader.
    case asking
    /// Observe: the first put under the prefix.
    case awaitingLeader
    /// Observe: changes of the leader's key in `awaited`.
    case following
  }

  var kind: Kind
  var stage: Stage
  /// As the client named it.
  var name: [UInt8] = []
  var value: [UInt8] = []
  var lease = LeaseID.none
  /// Its own key and the revision that made it.
  var key: [UInt8] = []
  var revision: Int64 = 0
  /// The header that the answer repeats: encoded, with its tag.
  var header: [UInt8] = []
  var awaited: [UInt8] = []
  /// The revision of the state that made it wait: changes up to it are known.
  var known: Int64 = 0

  /// `name/`: the prefix of all keys of a lock or an election.
  var prefix: [UInt8] { name + [0x2f] }
  /// The end of the range of `prefix`.
  var prefixEnd: [UInt8] { name + [0x30] }
  /// Whether a key of its own may be there that has to go when the course is given up.
  var ownsKey: Bool {
    switch stage {
    case .searching, .awaitingDelete, .confirming, .proclaiming: kind == .lock || kind == .campaign
    case .acquiring: true
    default: false
    }
  }
}

/// Who waits for which key. Lists in order of waiting.
struct Waiters {
  var byKey: [[UInt8]: [CallID]] = [:]
  /// Observers of elections without a leader.
  var forLeader: [CallID] = []
  var count = 0

  mutating func insert(_ id: CallID, key: [UInt8]) {
    byKey[key, default: []].append(id)
    count += 1
  }

  mutating func remove(_ id: CallID, key: [UInt8]) {
    guard var list = byKey[key], let index = list.firstIndex(of: id) else { return }
    list.remove(at: index)
    byKey[key] = list.isEmpty ? nil : list
    count -= 1
  }
}

/// Requests that the services make of themselves.
enum Compose {
  /// RangeRequest for the oldest key of the waiter's prefix.
  static func firstMade(_ waiter: Waiter) -> [UInt8] {
    range(waiter, isDescending: false, madeUntil: 0)
  }

  /// RangeRequest for the newest key of the waiter's prefix that was made no later than `revision`.
  static func lastMade(_ waiter: Waiter, until revision: Int64) -> [UInt8] {
    range(waiter, isDescending: true, madeUntil: revision)
  }

  private static func range(
    _ waiter: Waiter, isDescending: Bool, madeUntil: Int64
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, waiter.prefix.rawSpan)
    bytes.appendField(2, waiter.prefixEnd.rawSpan)
    bytes.appendField(3, 1 as Int64)
    bytes.appendField(5, (isDescending ? 2 : 1) as UInt64)
    bytes.appendField(6, 2 as UInt64)
    bytes.appendField(13, madeUntil)
    return bytes
  }

  /// RangeRequest for one key.
  static func get(_ key: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, key.rawSpan)
    return bytes
  }

  static func put(_ key: [UInt8], value: [UInt8], lease: LeaseID) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, key.rawSpan)
    bytes.appendField(2, value.rawSpan)
    bytes.appendField(3, lease.rawValue)
    return bytes
  }

  /// Txn: when the key was made at `revision` (0: is not there) the operations of
  /// `success`, else those of `failure`; an operation is (field of Txn.Op, request).
  static func txn(
    _ key: [UInt8], madeAt revision: Int64, success: [(Int, [UInt8])],
    failure: [(Int, [UInt8])]
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    let compare = bytes.beginField(1, expecting: 0)
    bytes.appendField(2, 1 as UInt64)
    bytes.appendField(3, key.rawSpan)
    // The union's member has to be there even when it is zero.
    bytes.appendAlways(5, UInt64(bitPattern: revision))
    bytes.endField(compare)
    for (field, ops) in [(2, success), (3, failure)] {
      for (kind, request) in ops {
        let mark = bytes.beginField(field, expecting: 0)
        bytes.appendField(kind, request.rawSpan)
        bytes.endField(mark)
      }
    }
    return bytes
  }
}

/// What a course has to know of a response: the header, whether a transaction's compares held,
/// and the first key-value of each range in it.
struct Reply {
  var header: [UInt8] = []
  var revision: Int64 = 0
  var succeeded = false
  /// The number of field 2: of a LeaseGrantResponse its ID.
  var number: Int64 = 0
  /// The encoded key-value of each range, or of the one range; nil when the range was empty.
  var found: [[UInt8]?] = []

  /// A RangeResponse.
  static func range(_ bytes: RawSpan) -> Reply {
    var reply = Reply()
    var first: [UInt8]?
    reply.read(bytes) { field, part in
      if field == 2, first == nil { first = part.copied() }
    }
    reply.found = [first]
    return reply
  }

  /// A TxnResponse.
  static func txn(_ bytes: RawSpan) -> Reply {
    var reply = Reply()
    var found: [[UInt8]?] = []
    reply.read(bytes) { field, part in
      guard field == 3 else { return }
      var inner = Reply()
      inner.read(part) { kind, range in
        if kind == 1 { found += Reply.range(range).found }
      }
    }
    reply.found = found
    reply.succeeded = reply.number != 0
    return reply
  }

  /// Any other response: header and the number of field 2.
  static func other(_ bytes: RawSpan) -> Reply {
    var reply = Reply()
    reply.read(bytes) { _, _ in }
    return reply
  }

  /// Reads header and number, and hands each length-delimited field to `part`. The responses are
  /// our own: one that cannot be read ends as if it were over.
  private mutating func read(_ bytes: RawSpan, _ part: (Int, RawSpan) -> Void) {
    var reader = ProtoReader(bytes)
    while let tag = try? reader.nextTag() {
      if tag.wire == .lengthDelimited, let slice = try? reader.bytes(tag) {
        if tag.field == 1 { takeHeader(slice, bytes) }
        part(tag.field, bytes.extracting(slice))
      } else if tag.field == 2, let value = try? reader.int64(tag) {
        number = value
      } else if (try? reader.skip(tag)) == nil {
        return
      }
    }
  }

  private mutating func takeHeader(_ message: Slice, _ bytes: RawSpan) {
    header = []
    header.appendMessage(1, bytes.extracting(message))
    if let view = try? ResponseHeaderView(bytes, in: message) { revision = view.revision }
  }

  func keyValue(_ index: Int) -> KeyValueView? {
    guard index < found.count, let bytes = found[index] else { return nil }
    return try? KeyValueView(bytes.rawSpan)
  }
}
