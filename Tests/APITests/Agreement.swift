import API
import Basics
import Testing

/// What the two codecs made of the same bytes.
enum Verdict { case same, bothRefuse, refused }

/// Reads `bytes` with both codecs. The span codec may accept what the generated one refuses for
/// reasons of protobuf-c's own, never the other way round; what both accept must be equal.
@discardableResult
func expectSame(_ bytes: [UInt8], _ subject: Subject) throws -> Verdict {
  switch subject {
  case .put:
    return compare(
      bytes, generated: { try PutRequest(decoding: $0) },
      span: { try lift(PutRequestView($0), $0) })
  case .range:
    return compare(
      bytes, generated: { try RangeRequest(decoding: $0) },
      span: { try lift(RangeRequestView($0), $0) })
  case .deleteRange:
    return compare(
      bytes, generated: { try DeleteRangeRequest(decoding: $0) },
      span: { try lift(DeleteRangeRequestView($0), $0) })
  case .txn:
    return compare(
      bytes, generated: { try TxnRequest(decoding: $0) },
      span: { source in
        let whole = Slice(start: 0, count: source.byteCount)
        try TxnRequestView.checkNesting(source, in: whole)
        return try txn(source, whole)
      })
  case .compaction:
    return compare(
      bytes, generated: { try CompactionRequest(decoding: $0) },
      span: {
        let view = try CompactionRequestView($0)
        return CompactionRequest(revision: view.revision, physical: view.physical)
      })
  case .keyValue:
    return compare(
      bytes, generated: { try KeyValue(decoding: $0) }, span: { try lift(KeyValueView($0), $0) })
  case .event where isRepeated(2, in: bytes) || isRepeated(3, in: bytes): return .same
  case .event:
    return compare(
      bytes, generated: { try Event(decoding: $0) },
      span: { source in
        let view = try EventView(source)
        let kv = try view.kv.map { try lift(KeyValueView(source, in: $0), source) }
        let prev = try view.prevKV.map { try lift(KeyValueView(source, in: $0), source) }
        return Event(type: view.type, kv: kv, prevKV: prev)
      })
  case .watch:
    return compare(
      bytes, generated: { normal(try WatchRequest(decoding: $0)) }, span: { try watch($0) })
  case .entry:
    return compare(
      bytes, generated: { try RaftPB.Entry(decoding: $0) }, span: { try lift(EntryView($0), $0) })
  case .message where isRepeated(9, in: bytes): return .same
  case .message:
    return compare(
      bytes, generated: { try RaftPB.Message(decoding: $0) }, span: { try message($0) })
  }
}

/// Whether singular message field `field` comes more than once: protobuf-c merges such pieces, the
/// views keep the last.
private func isRepeated(_ field: Int, in bytes: [UInt8]) -> Bool {
  var reader = ProtoReader(bytes.rawSpan)
  var count = 0
  while let tag = try? reader.nextTag() {
    if tag.field == field { count += 1 }
    guard (try? reader.skip(tag)) != nil else { break }
  }
  return count > 1
}

private func compare<T: Equatable>(
  _ bytes: [UInt8], generated: (RawSpan) throws -> T, span: (RawSpan) throws -> T
) -> Verdict {
  let mine = Result { try span(bytes.rawSpan) }
  do {
    let theirs = try generated(bytes.rawSpan)
    switch mine {
    case .success(let value): #expect(value == theirs, "\(bytes)")
    case .failure(let error): Issue.record("span codec refuses: \(error) \(bytes)")
    }
    return .same
  } catch {
    guard case .success = mine else { return .bothRefuse }
    let reason = (error as? DecodeError)?.reason
    #expect(reason == .refused || reason == .group, "\(bytes)")
    return reason == .refused ? .refused : .same
  }
}

private func copy(_ source: RawSpan, _ slice: Slice) -> [UInt8] {
  source.extracting(slice).copied()
}

private func lift(_ view: PutRequestView, _ source: RawSpan) -> PutRequest {
  PutRequest(
    key: copy(source, view.key), value: copy(source, view.value), lease: view.lease.rawValue,
    prevKV: view.prevKV, ignoreValue: view.ignoreValue, ignoreLease: view.ignoreLease)
}

private func lift(_ view: RangeRequestView, _ source: RawSpan) -> RangeRequest {
  RangeRequest(
    key: copy(source, view.key), rangeEnd: copy(source, view.rangeEnd), limit: view.limit,
    revision: view.revision, sortOrder: view.sortOrder, sortTarget: view.sortTarget,
    serializable: view.serializable, keysOnly: view.keysOnly, countOnly: view.countOnly,
    minModRevision: view.minModRevision, maxModRevision: view.maxModRevision,
    minCreateRevision: view.minCreateRevision, maxCreateRevision: view.maxCreateRevision)
}

private func lift(_ view: DeleteRangeRequestView, _ source: RawSpan) -> DeleteRangeRequest {
  DeleteRangeRequest(
    key: copy(source, view.key), rangeEnd: copy(source, view.rangeEnd), prevKV: view.prevKV)
}

private func lift(_ view: KeyValueView, _ source: RawSpan) -> KeyValue {
  KeyValue(
    key: copy(source, view.key), createRevision: view.createRevision,
    modRevision: view.modRevision, version: view.version, value: copy(source, view.value),
    lease: view.lease.rawValue)
}

private func lift(_ view: EntryView, _ source: RawSpan) -> RaftPB.Entry {
  RaftPB.Entry(
    term: view.term.rawValue, index: view.index.rawValue, type: view.type,
    data: view.data.map { copy(source, $0) })
}

private func lift(_ view: CompareView, _ source: RawSpan) -> Compare {
  let union: Compare.TargetUnion? =
    switch view.union {
    case .version(let value): .version(value)
    case .createRevision(let value): .createRevision(value)
    case .modRevision(let value): .modRevision(value)
    case .value(let slice): .value(copy(source, slice))
    case .lease(let id): .lease(id.rawValue)
    case nil: nil
    }
  return Compare(
    result: view.result, target: view.target, key: copy(source, view.key),
    rangeEnd: copy(source, view.rangeEnd), targetUnion: union)
}

private func operation(_ view: RequestOpView, _ source: RawSpan) throws -> RequestOp {
  switch view {
  case .none: RequestOp()
  case .range(let range): RequestOp(request: .requestRange(lift(range, source)))
  case .put(let put): RequestOp(request: .requestPut(lift(put, source)))
  case .deleteRange(let delete): RequestOp(request: .requestDeleteRange(lift(delete, source)))
  case .txn(let slice): RequestOp(request: .requestTxn(try txn(source, slice)))
  }
}

private func txn(_ source: RawSpan, _ slice: Slice) throws -> TxnRequest {
  var view = TxnRequestView()
  try view.decode(source, in: slice)
  var result = TxnRequest()
  for compare in view.compares { result.compare.append(lift(compare, source)) }
  for part in view.success { result.success.append(try operation(part, source)) }
  for part in view.failure { result.failure.append(try operation(part, source)) }
  return result
}

/// Filters as the set that the view keeps.
private func normal(_ request: WatchRequest) -> WatchRequest {
  guard case .createRequest(var create) = request.requestUnion else { return request }
  create.filters = [.noPut, .noDelete].filter { create.filters.contains($0) }
  return WatchRequest(requestUnion: .createRequest(create))
}

private func watch(_ source: RawSpan) throws -> WatchRequest {
  switch try WatchRequestView(source) {
  case .none: return WatchRequest()
  case .cancel(let id):
    return WatchRequest(requestUnion: .cancelRequest(WatchCancelRequest(watchID: id)))
  case .progress: return WatchRequest(requestUnion: .progressRequest(WatchProgressRequest()))
  case .create(let view):
    let filters: [WatchCreateRequest.FilterType] =
      (view.noPut ? [.noPut] : []) + (view.noDelete ? [.noDelete] : [])
    let create = WatchCreateRequest(
      key: copy(source, view.key), rangeEnd: copy(source, view.rangeEnd),
      startRevision: view.startRevision, progressNotify: view.progressNotify, filters: filters,
      prevKV: view.prevKV, watchID: view.watchID, fragment: view.fragment)
    return WatchRequest(requestUnion: .createRequest(create))
  }
}

private func message(_ source: RawSpan) throws -> RaftPB.Message {
  var view = MessageView()
  try view.decode(source)
  var snapshot = RaftPB.Snapshot()
  if let slice = view.snapshot {
    snapshot = try RaftPB.Snapshot(decoding: source.extracting(slice))
  }
  var result = RaftPB.Message(
    type: view.type, to: view.to.rawValue, from: view.from.rawValue, term: view.term.rawValue,
    logTerm: view.logTerm.rawValue, index: view.index.rawValue, commit: view.commit.rawValue,
    snapshot: snapshot, reject: view.reject, rejectHint: view.rejectHint.rawValue,
    context: view.context.map { copy(source, $0) })
  for entry in view.entries { result.entries.append(lift(entry, source)) }
  return result
}
