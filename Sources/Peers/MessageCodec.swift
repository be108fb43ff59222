internal import API
internal import Basics
public import Raft

/// Messages of Raft as raftpb.Message bytes. etcd: raft/raftpb.
extension Message {
  private static let transferContext = [UInt8]("CampaignTransfer".utf8)

  /// Appends the encoded message.
  public func encode(into bytes: inout [UInt8]) {
    var view = MessageView()
    view.to = to
    view.from = from
    view.term = term
    var entries: [Entry] = []
    var context: [UInt8]?
    var snapshotBytes: [UInt8] = []
    switch body {
    case .append(let append):
      view.type = .app
      view.index = append.previousIndex
      view.logTerm = append.previousTerm
      view.commit = append.commit
      entries = append.entries
    case .appendResponse(let response):
      view.type = .appResp
      view.index = response.index
      if let rejection = response.rejection {
        view.reject = true
        view.rejectHint = rejection.hintIndex
        view.logTerm = rejection.hintTerm
      }
    case .vote(let ballot), .preVote(let ballot):
      view.type = .vote
      if case .preVote = body { view.type = .preVote }
      view.index = ballot.lastIndex
      view.logTerm = ballot.lastTerm
      if ballot.isTransfer { context = Message.transferContext }
    case .voteResponse(let isRejected):
      view.type = .voteResp
      view.reject = isRejected
    case .preVoteResponse(let isRejected):
      view.type = .preVoteResp
      view.reject = isRejected
    case .heartbeat(let commit, let bytes):
      view.type = .heartbeat
      view.commit = commit
      context = bytes.isEmpty ? nil : bytes
    case .heartbeatResponse(let bytes):
      view.type = .heartbeatResp
      context = bytes.isEmpty ? nil : bytes
    case .snapshot(let snapshot):
      view.type = .snap
      snapshot.encode(into: &snapshotBytes)
    case .timeoutNow: view.type = .timeoutNow
    case .transferLeader: view.type = .transferLeader
    case .propose(let proposed):
      view.type = .prop
      entries = proposed
    case .readIndex(let bytes):
      view.type = .readIndex
      entries = [Message.carrier(bytes)]
    case .readIndexResponse(let index, let bytes):
      view.type = .readIndexResp
      view.index = index
      entries = [Message.carrier(bytes)]
    }
    view.encodeHead(into: &bytes)
    for entry in entries { entry.encode(7, into: &bytes) }
    let sent = context ?? []
    view.encodeTail(
      snapshot: snapshotBytes.rawSpan, hasContext: context != nil, context: sent.rawSpan,
      into: &bytes)
  }

  /// An entry whose data is the context of a read.
  private static func carrier(_ context: [UInt8]) -> Entry {
    Entry(term: .zero, index: .zero, kind: .normal, data: context)
  }

  /// Reads an encoded message. Whether its numbers are usable is for `Core.step` to say.
  public init(decoding bytes: RawSpan) throws(WireError) {
    var view = MessageView()
    do { try view.decode(bytes) } catch { throw .malformedMessage }
    self.init(from: view.from, to: view.to, term: view.term, body: try Message.body(view, bytes))
  }

  private static func body(
    _ view: MessageView, _ bytes: RawSpan
  ) throws(WireError) -> Body {
    let context = view.context.map { bytes.extracting($0).copied() } ?? []
    switch view.type {
    case .prop: return .propose(try entries(view, bytes))
    case .app:
      return .append(
        Append(
          previousIndex: view.index, previousTerm: view.logTerm, commit: view.commit,
          entries: try entries(view, bytes)))
    case .appResp:
      let rejection =
        view.reject ? Rejection(hintIndex: view.rejectHint, hintTerm: view.logTerm) : nil
      return .appendResponse(AppendResponse(index: view.index, rejection: rejection))
    case .vote, .preVote:
      let ballot = Ballot(
        lastIndex: view.index, lastTerm: view.logTerm, isTransfer: context == transferContext)
      return view.type == .vote ? .vote(ballot) : .preVote(ballot)
    case .voteResp: return .voteResponse(isRejected: view.reject)
    case .preVoteResp: return .preVoteResponse(isRejected: view.reject)
    case .snap:
      guard let slice = view.snapshot else { throw .malformedMessage }
      do throws(DecodeError) { return .snapshot(try Snapshot(bytes, in: slice)) } catch {
        throw .malformedMessage
      }
    case .heartbeat: return .heartbeat(commit: view.commit, context: context)
    case .heartbeatResp: return .heartbeatResponse(context: context)
    case .transferLeader: return .transferLeader
    case .timeoutNow: return .timeoutNow
    case .readIndex: return .readIndex(context: try carried(view, bytes))
    case .readIndexResp:
      return .readIndexResponse(index: view.index, context: try carried(view, bytes))
    default: throw .unknownMessage(view.type.rawValue)
    }
  }

  private static func entries(
    _ view: MessageView, _ bytes: RawSpan
  ) throws(WireError) -> [Entry] {
    var entries: [Entry] = []
    entries.reserveCapacity(view.entries.count)
    for entry in view.entries { entries.append(try Entry(entry, bytes)) }
    return entries
  }

  private static func carried(_ view: MessageView, _ bytes: RawSpan) throws(WireError) -> [UInt8] {
    guard view.entries.count == 1 else { throw .malformedMessage }
    return view.entries[0].data.map { bytes.extracting($0).copied() } ?? []
  }
}

extension Entry {
  init(_ view: EntryView, _ bytes: RawSpan) throws(WireError) {
    guard let kind = UInt8(exactly: view.type.rawValue).flatMap(EntryKind.init(rawValue:)) else {
      throw .malformedMessage
    }
    self.init(
      term: view.term, index: view.index, kind: kind,
      data: view.data.map { bytes.extracting($0).copied() } ?? [])
  }

  /// Reads an encoded raftpb.Entry.
  init(decoding bytes: RawSpan) throws(WireError) {
    let view: EntryView
    do { view = try EntryView(bytes) } catch { throw .malformedMessage }
    try self.init(view, bytes)
  }

  private var type: RaftPB.EntryType { RaftPB.EntryType(rawValue: Int32(kind.rawValue)) }

  /// Appends the entry as an element of the repeated field `field`.
  func encode(_ field: Int, into bytes: inout [UInt8]) {
    bytes.appendEntry(
      field, type: type, term: term, index: index, hasData: !data.isEmpty, data: data.rawSpan)
  }

  /// Appends the entry as a message of its own.
  func encode(into bytes: inout [UInt8]) {
    bytes.appendEntry(
      type: type, term: term, index: index, hasData: !data.isEmpty, data: data.rawSpan)
  }
}

/// raftpb.Snapshot {data=1, metadata=2 {conf_state=1, index=2, term=3}}.
extension Snapshot {
  func encode(into bytes: inout [UInt8]) {
    bytes.appendField(1, data.rawSpan)
    let outer = bytes.beginField(2, expecting: 64)
    let inner = bytes.beginField(1, expecting: 48)
    let state = metadata.confState
    for (field, ids) in [
      (1, state.voters), (2, state.learners), (3, state.votersOutgoing), (4, state.learnersNext),
    ] {
      for id in ids { bytes.appendAlways(field, id.rawValue) }
    }
    bytes.appendAlways(5, state.autoLeave ? 1 : 0)
    bytes.endField(inner)
    bytes.appendAlways(2, metadata.index.rawValue)
    bytes.appendAlways(3, metadata.term.rawValue)
    bytes.endField(outer)
  }

  init(_ bytes: RawSpan, in slice: Slice) throws(DecodeError) {
    self.init(
      metadata: SnapshotMetadata(confState: ConfState(voters: []), index: .zero, term: .zero),
      data: [])
    var reader = ProtoReader(bytes, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: data = bytes.extracting(try reader.bytes(tag)).copied()
      case 2: try readMetadata(bytes, in: try reader.bytes(tag))
      default: try reader.skip(tag)
      }
    }
  }

  private mutating func readMetadata(_ bytes: RawSpan, in slice: Slice) throws(DecodeError) {
    var reader = ProtoReader(bytes, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: try readConfState(bytes, in: try reader.bytes(tag))
      case 2: metadata.index = LogIndex(try reader.uint64(tag))
      case 3: metadata.term = Term(try reader.uint64(tag))
      default: try reader.skip(tag)
      }
    }
  }

  private mutating func readConfState(_ bytes: RawSpan, in slice: Slice) throws(DecodeError) {
    var lists: [[NodeID]] = [[], [], [], []]
    var autoLeave = false
    var reader = ProtoReader(bytes, in: slice)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1...4 where tag.wire == .lengthDelimited:
        var packed = ProtoReader(bytes, in: try reader.bytes(tag))
        while !packed.isAtEnd { lists[tag.field - 1].append(NodeID(try packed.varint())) }
      case 1...4: lists[tag.field - 1].append(NodeID(try reader.uint64(tag)))
      case 5: autoLeave = try reader.bool(tag)
      default: try reader.skip(tag)
      }
    }
    metadata.confState = ConfState(
      voters: lists[0], learners: lists[1], votersOutgoing: lists[2], learnersNext: lists[3],
      autoLeave: autoLeave)
  }
}
