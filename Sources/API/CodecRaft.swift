public import Basics

/// Which request an `etcdserverpb.InternalRaftRequest` holds; the raw value is its field.
public enum RaftRequestKind: Int, CaseIterable, Sendable {
  case v2 = 2
  case range = 3
  case put = 4
  case deleteRange = 5
  case txn = 6
  case compaction = 7
  case leaseGrant = 8
  case leaseRevoke = 9
  case alarm = 10
  case leaseCheckpoint = 11
  case authEnable = 1000
  case authDisable = 1011
  case authenticate = 1012
  case authStatus = 1013
  case authUserAdd = 1100
  case authUserDelete = 1101
  case authUserGet = 1102
  case authUserChangePassword = 1103
  case authUserGrantRole = 1104
  case authUserRevokeRole = 1105
  case authUserList = 1106
  case authRoleList = 1107
  case authRoleAdd = 1200
  case authRoleDelete = 1201
  case authRoleGet = 1202
  case authRoleGrantPermission = 1203
  case authRoleRevokePermission = 1204
  case clusterVersionSet = 1300
  case clusterMemberAttrSet = 1301
  case downgradeInfoSet = 1302
}

/// `etcdserverpb.InternalRaftRequest`: what a log entry asks for.
public struct InternalRaftRequestView: Hashable, Sendable {
  /// The request's ID: of the header, or the older field that etcd prefers when it is set.
  public var id: UInt64 = 0
  public var username = Slice.empty
  public var authRevision: UInt64 = 0
  /// The request and where its message lies; nil when it has none that is known. etcd writes
  /// one; of several, the last is taken.
  public var kind: RaftRequestKind?
  public var request = Slice.empty

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source), source) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice), source)
  }

  private init(_ start: consuming ProtoReader, _ source: RawSpan) throws(DecodeError) {
    var reader = start
    var oldID: UInt64 = 0
    while let tag = try reader.nextTag() {
      if tag.field == 1 {
        oldID = try reader.uint64(tag)
      } else if tag.field == 100 {
        try readHeader(source, in: try reader.bytes(tag))
      } else if let known = RaftRequestKind(rawValue: tag.field) {
        request = try reader.bytes(tag)
        kind = known
      } else {
        try reader.skip(tag)
      }
    }
    if oldID != 0 { id = oldID }
  }

  private mutating func readHeader(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    var reader = ProtoReader(source, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: id = try reader.uint64(tag)
      case 2: username = try reader.bytes(tag)
      case 3: authRevision = try reader.uint64(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

extension [UInt8] {
  /// Appends an `InternalRaftRequest` around the encoded `request`, which goes in as it is.
  public mutating func appendInternalRaftRequest(
    _ kind: RaftRequestKind, _ request: RawSpan, id: UInt64, username: RawSpan,
    authRevision: UInt64
  ) {
    // The header is field 100: behind the store's requests, before those of auth.
    if kind.rawValue < 100 { appendMessage(kind.rawValue, request) }
    let header = beginField(100, expecting: 0)
    appendField(1, id)
    appendField(2, username)
    appendField(3, authRevision)
    endField(header)
    if kind.rawValue > 100 { appendMessage(kind.rawValue, request) }
  }
}

/// `raftpb.Entry`
public struct EntryView: Hashable, Sendable {
  public var type = RaftPB.EntryType.normal
  public var term = Term.zero
  public var index = LogIndex.zero
  /// Nil when the entry has no data; an empty one is another thing on the wire.
  public var data: Slice?

  public init() {}

  public init(_ source: RawSpan) throws(DecodeError) { try self.init(ProtoReader(source)) }

  public init(_ source: RawSpan, in slice: Slice) throws(DecodeError) {
    try self.init(ProtoReader(source, in: slice))
  }

  private init(_ start: consuming ProtoReader) throws(DecodeError) {
    var reader = start
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: type = RaftPB.EntryType(rawValue: try reader.int32(tag))
      case 2: term = Term(try reader.uint64(tag))
      case 3: index = LogIndex(try reader.uint64(tag))
      case 4: data = try reader.bytes(tag)
      default: try reader.skip(tag)
      }
    }
  }
}

extension [UInt8] {
  /// Appends a `raftpb.Entry` as a message of its own. Without data when `hasData` is false.
  public mutating func appendEntry(
    type: RaftPB.EntryType, term: Term, index: LogIndex, hasData: Bool, data: RawSpan
  ) {
    appendAlways(1, UInt64(bitPattern: Int64(type.rawValue)))
    appendAlways(2, term.rawValue)
    appendAlways(3, index.rawValue)
    if hasData { appendMessage(4, data) }
  }

  /// Appends a `raftpb.Entry` as the element of repeated field `field` (7 in a `Message`).
  public mutating func appendEntry(
    _ field: Int, type: RaftPB.EntryType, term: Term, index: LogIndex, hasData: Bool,
    data: RawSpan
  ) {
    let open = beginField(field, expecting: 12 + data.byteCount)
    appendEntry(type: type, term: term, index: index, hasData: hasData, data: data)
    endField(open)
  }
}

/// `raftpb.Message`; its entries are in an array that `decode` uses again.
public struct MessageView: Hashable, Sendable {
  public var type = RaftPB.MessageType.hup
  public var to = NodeID.none
  public var from = NodeID.none
  public var term = Term.zero
  public var logTerm = Term.zero
  public var index = LogIndex.zero
  public var entries: [EntryView] = []
  public var commit = LogIndex.zero
  /// The encoded `raftpb.Snapshot`. etcd sends one with every message, all zero but in MsgSnap.
  public var snapshot: Slice?
  public var reject = false
  public var rejectHint = LogIndex.zero
  public var context: Slice?

  public init() {}

  public mutating func decode(_ source: RawSpan) throws(DecodeError) {
    var entries: [EntryView] = []
    swap(&entries, &self.entries)
    entries.removeAll(keepingCapacity: true)
    self = MessageView()
    var reader = ProtoReader(source)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: type = RaftPB.MessageType(rawValue: try reader.int32(tag))
      case 2: to = NodeID(try reader.uint64(tag))
      case 3: from = NodeID(try reader.uint64(tag))
      case 4: term = Term(try reader.uint64(tag))
      case 5: logTerm = Term(try reader.uint64(tag))
      case 6: index = LogIndex(try reader.uint64(tag))
      case 7: entries.append(try EntryView(source, in: try reader.bytes(tag)))
      case 8: commit = LogIndex(try reader.uint64(tag))
      case 9: snapshot = try reader.bytes(tag)
      case 10: reject = try reader.bool(tag)
      case 11: rejectHint = LogIndex(try reader.uint64(tag))
      case 12: context = try reader.bytes(tag)
      default: try reader.skip(tag)
      }
    }
    self.entries = entries
  }

  /// Appends the fields before the entries, which follow by `appendEntry(7, …)`; then call
  /// `encodeTail`. The slices of the view and its `entries` are not used.
  public func encodeHead(into bytes: inout [UInt8]) {
    bytes.appendAlways(1, UInt64(bitPattern: Int64(type.rawValue)))
    bytes.appendAlways(2, to.rawValue)
    bytes.appendAlways(3, from.rawValue)
    bytes.appendAlways(4, term.rawValue)
    bytes.appendAlways(5, logTerm.rawValue)
    bytes.appendAlways(6, index.rawValue)
  }

  /// Appends the fields behind the entries. `snapshot` is an encoded `raftpb.Snapshot`, or empty
  /// for none; `context` is left out when `hasContext` is false.
  public func encodeTail(
    snapshot: RawSpan, hasContext: Bool, context: RawSpan, into bytes: inout [UInt8]
  ) {
    bytes.appendAlways(8, commit.rawValue)
    if snapshot.isEmpty {
      bytes.append(contentsOf: Self.noSnapshot)
    } else {
      bytes.appendMessage(9, snapshot)
    }
    bytes.appendAlways(10, reject ? 1 : 0)
    bytes.appendAlways(11, rejectHint.rawValue)
    if hasContext { bytes.appendMessage(12, context) }
  }

  /// Field 9 with a snapshot whose metadata, and whose configuration in it, are all zero.
  private static let noSnapshot: [UInt8] = [
    0x4a, 0x0a, 0x12, 0x08, 0x0a, 0x02, 0x28, 0x00, 0x10, 0x00, 0x18, 0x00,
  ]
}
