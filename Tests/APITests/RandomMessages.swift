import API
import Basics
import Testing

/// Messages that both codecs know.
enum Subject: CaseIterable, Sendable {
  case put, range, deleteRange, txn, compaction, keyValue, event, watch, entry, message
}

func wire(of message: PutRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: RangeRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: DeleteRangeRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: TxnRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: CompactionRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: KeyValue) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: Event) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: WatchRequest) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: WatchResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: RaftPB.Entry) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: RaftPB.Message) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: RaftPB.Snapshot) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: PutResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: RangeResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: DeleteRangeResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: TxnResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: LeaseKeepAliveResponse) -> [UInt8] { built { message.encode(into: &$0) } }
func wire(of message: InternalRaftRequest) -> [UInt8] { built { message.encode(into: &$0) } }

private func built(_ body: (inout [UInt8]) -> Void) -> [UInt8] {
  var bytes: [UInt8] = []
  body(&bytes)
  return bytes
}

func headerView(_ header: ResponseHeader) -> ResponseHeaderView {
  ResponseHeaderView(
    clusterID: ClusterID(header.clusterID), memberID: NodeID(header.memberID),
    revision: header.revision, raftTerm: Term(header.raftTerm))
}

/// `message` by the span codec.
func spanEncoded(_ message: RaftPB.Message) -> [UInt8] {
  var view = MessageView()
  view.type = message.type
  view.to = NodeID(message.to)
  view.from = NodeID(message.from)
  view.term = Term(message.term)
  view.logTerm = Term(message.logTerm)
  view.index = LogIndex(message.index)
  view.commit = LogIndex(message.commit)
  view.reject = message.reject
  view.rejectHint = LogIndex(message.rejectHint)
  var bytes: [UInt8] = []
  view.encodeHead(into: &bytes)
  for entry in message.entries {
    let data = entry.data ?? []
    bytes.appendEntry(
      7, type: entry.type, term: Term(entry.term), index: LogIndex(entry.index),
      hasData: entry.data != nil, data: data.rawSpan)
  }
  let snapshot = message.snapshot == RaftPB.Snapshot() ? [] : wire(of: message.snapshot)
  let context = message.context ?? []
  view.encodeTail(
    snapshot: snapshot.rawSpan, hasContext: message.context != nil, context: context.rawSpan,
    into: &bytes)
  return bytes
}

extension Random {
  mutating func number() -> Int64 {
    switch next(below: 5) {
    case 0: 0
    case 1: Int64(next(below: 200))
    case 2: -1
    default: Int64(bitPattern: next() >> UInt64(next(below: 64)))
    }
  }

  mutating func blob() -> [UInt8] {
    let count = [0, 1, 3, 20, 200][next(below: 5)]
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }

  mutating func flag() -> Bool { chance(1, in: 2) }

  mutating func put() -> PutRequest {
    PutRequest(
      key: blob(), value: blob(), lease: number(), prevKV: flag(), ignoreValue: flag(),
      ignoreLease: flag())
  }

  mutating func range() -> RangeRequest {
    RangeRequest(
      key: blob(), rangeEnd: blob(), limit: number(), revision: number(),
      sortOrder: RangeRequest.SortOrder(rawValue: Int32(truncatingIfNeeded: number())),
      sortTarget: RangeRequest.SortTarget(rawValue: Int32(next(below: 5))),
      serializable: flag(), keysOnly: flag(), countOnly: flag(), minModRevision: number(),
      maxModRevision: number(), minCreateRevision: number(), maxCreateRevision: number())
  }

  mutating func deleteRange() -> DeleteRangeRequest {
    DeleteRangeRequest(key: blob(), rangeEnd: blob(), prevKV: flag())
  }

  mutating func compaction() -> CompactionRequest {
    CompactionRequest(revision: number(), physical: flag())
  }

  mutating func keyValue() -> KeyValue {
    KeyValue(
      key: blob(), createRevision: number(), modRevision: number(), version: number(),
      value: blob(), lease: number())
  }

  mutating func event() -> Event {
    Event(
      type: flag() ? .put : .delete, kv: flag() ? keyValue() : nil,
      prevKV: flag() ? keyValue() : nil)
  }

  mutating func header() -> ResponseHeader {
    ResponseHeader(
      clusterID: next(), memberID: UInt64(bitPattern: number()), revision: number(),
      raftTerm: UInt64(next(below: 3)))
  }

  mutating func compare() -> Compare {
    let union: Compare.TargetUnion? =
      switch next(below: 6) {
      case 0: .version(number())
      case 1: .createRevision(number())
      case 2: .modRevision(number())
      case 3: .value(blob())
      case 4: .lease(number())
      default: nil
      }
    return Compare(
      result: Compare.CompareResult(rawValue: Int32(next(below: 4))),
      target: Compare.CompareTarget(rawValue: Int32(next(below: 5))), key: blob(),
      rangeEnd: blob(), targetUnion: union)
  }

  mutating func operation(depth: Int) -> RequestOp {
    switch next(below: depth > 0 ? 5 : 4) {
    case 0: RequestOp(request: .requestRange(range()))
    case 1: RequestOp(request: .requestPut(put()))
    case 2: RequestOp(request: .requestDeleteRange(deleteRange()))
    case 3: RequestOp()
    default: RequestOp(request: .requestTxn(txn(depth: depth - 1)))
    }
  }

  mutating func txn(depth: Int) -> TxnRequest {
    TxnRequest(
      compare: (0..<next(below: 3)).map { _ in compare() },
      success: (0..<next(below: 3)).map { _ in operation(depth: depth) },
      failure: (0..<next(below: 3)).map { _ in operation(depth: depth) })
  }

  mutating func watch() -> WatchRequest {
    switch next(below: 4) {
    case 0:
      return WatchRequest(
        requestUnion: .cancelRequest(WatchCancelRequest(watchID: number())))
    case 1: return WatchRequest(requestUnion: .progressRequest(WatchProgressRequest()))
    case 2: return WatchRequest()
    default:
      let filters: [WatchCreateRequest.FilterType] = [.noPut, .noDelete]
      let create = WatchCreateRequest(
        key: blob(), rangeEnd: blob(), startRevision: number(), progressNotify: flag(),
        filters: Array(filters[next(below: 3)...]), prevKV: flag(), watchID: number(),
        fragment: flag())
      return WatchRequest(requestUnion: .createRequest(create))
    }
  }

  mutating func entry() -> RaftPB.Entry {
    RaftPB.Entry(
      term: UInt64(bitPattern: number()), index: UInt64(bitPattern: number()),
      type: RaftPB.EntryType(rawValue: Int32(next(below: 3))), data: flag() ? blob() : nil)
  }

  mutating func message() -> RaftPB.Message {
    var snapshot = RaftPB.Snapshot()
    if chance(1, in: 4) {
      snapshot.data = blob()
      snapshot.metadata.confState.voters = [1, next()]
      snapshot.metadata.index = next()
    }
    return RaftPB.Message(
      type: RaftPB.MessageType(rawValue: Int32(next(below: 19))),
      to: next(), from: next(), term: UInt64(bitPattern: number()), logTerm: 1,
      index: UInt64(next(below: 300)), entries: (0..<next(below: 4)).map { _ in entry() },
      commit: UInt64(bitPattern: number()), snapshot: snapshot, reject: flag(),
      rejectHint: UInt64(bitPattern: number()), context: flag() ? blob() : nil)
  }

  mutating func wire(_ subject: Subject) -> [UInt8] {
    switch subject {
    case .put: APITests.wire(of: put())
    case .range: APITests.wire(of: range())
    case .deleteRange: APITests.wire(of: deleteRange())
    case .txn: APITests.wire(of: txn(depth: 3))
    case .compaction: APITests.wire(of: compaction())
    case .keyValue: APITests.wire(of: keyValue())
    case .event: APITests.wire(of: event())
    case .watch: APITests.wire(of: watch())
    case .entry: APITests.wire(of: entry())
    case .message: APITests.wire(of: message())
    }
  }

  /// Flips bits, cuts, grows lengths, repeats stretches.
  mutating func damage(_ bytes: inout [UInt8]) {
    for _ in 0...next(below: 3) {
      guard !bytes.isEmpty else { break }
      let at = next(below: bytes.count)
      switch next(below: 6) {
      case 0: bytes[at] ^= 1 << UInt8(next(below: 8))
      case 1: bytes.removeSubrange(at...)
      case 2: bytes[at] = UInt8(truncatingIfNeeded: next())
      case 3: bytes.insert(UInt8(truncatingIfNeeded: next()), at: at)
      case 4: bytes[at] |= 0x80
      default: bytes.append(contentsOf: Array(bytes[at...]))
      }
    }
  }
}
