internal import Basics

/// What all response headers of this member say.
public struct WatchIdentity: Hashable, Sendable {
  public var clusterID: UInt64
  public var memberID: UInt64
  public var raftTerm: UInt64

  public init(clusterID: UInt64, memberID: UInt64, raftTerm: UInt64) {
    self.clusterID = clusterID
    self.memberID = memberID
    self.raftTerm = raftTerm
  }
}

/// etcdserverpb `WatchResponse` but for its events {header=1, watch_id=2, created=3, canceled=4,
/// compact_revision=5, cancel_reason=6, fragment=7, events=11}.
struct WatchResponseHead {
  private var bytes: [UInt8]

  init(_ response: Response, _ identity: WatchIdentity) {
    var header: [UInt8] = []
    header.appendField(1, identity.clusterID)
    header.appendField(2, identity.memberID)
    header.appendField(3, UInt64(bitPattern: response.revision))
    header.appendField(4, identity.raftTerm)
    bytes = [0x0a]
    bytes.appendVarint(UInt64(header.count))
    bytes += header
    bytes.appendField(2, UInt64(bitPattern: response.watchID))
    bytes.appendField(3, response.isCreated ? 1 : 0)
    bytes.appendField(4, response.isCanceled ? 1 : 0)
    bytes.appendField(5, UInt64(bitPattern: response.compactRevision))
    let reason = response.reason.text
    guard !reason.isEmpty else { return }
    bytes.append(0x32)
    bytes.appendVarint(UInt64(reason.count))
    bytes += reason
  }

  var byteCount: Int { bytes.count }

  func append(to target: inout [UInt8], isFragment: Bool) {
    target += bytes
    target.appendField(7, isFragment ? 1 : 0)
  }
}

/// One event of a `WatchResponse`: mvccpb `Event` {type=1, kv=2, prev_kv=3}.
struct WatchEvent {
  var body: [UInt8]
  var previous: [UInt8]?

  private var innerCount: Int {
    guard let previous else { return body.count }
    return body.count + 1 + varintCount(previous.count) + previous.count
  }

  var byteCount: Int { 1 + varintCount(innerCount) + innerCount }

  func append(to target: inout [UInt8]) {
    target.append(0x5a)
    target.appendVarint(UInt64(innerCount))
    target += body
    guard let previous else { return }
    target.append(0x1a)
    target.appendVarint(UInt64(previous.count))
    target += previous
  }
}

extension Response.Reason {
  /// As etcd words it; clients compare some of them.
  var text: [UInt8] {
    switch self {
    case .none: []
    case .duplicateID: [UInt8]("mvcc: duplicate watch ID provided on the WatchStream")
    case .emptyRange: [UInt8]("mvcc: watcher range is empty")
    case .compacted: [UInt8]("etcdserver: mvcc: required revision has been compacted")
    case .tooMany: [UInt8]("etcdserver: too many requests")
    case .text(let text): text
    }
  }
}

extension [UInt8] {
  /// Adds a varint field with a number below 16; zero is left out.
  fileprivate mutating func appendField(_ number: UInt8, _ value: UInt64) {
    guard value != 0 else { return }
    append(number << 3)
    appendVarint(value)
  }
}

private func varintCount(_ value: Int) -> Int {
  var count = 1
  var rest = value >> 7
  while rest > 0 {
    count += 1
    rest >>= 7
  }
  return count
}
