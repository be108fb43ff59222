internal import API
internal import Basics
internal import MVCC
internal import Replica

extension Failure {
  static let sessionExpired = Failure(.unknown, "mutex: session is expired")
  static let electionNotLeader = Failure(.unknown, "election: not leader")
  static let electionNoLeader = Failure(.unknown, "election: no leader")
  static let missingLeaderKey = Failure(.unknown, "\"leader\" field must be provided")
}

extension Services {
  /// Starts a call of the lock or the election service.
  mutating func receiveConcurrency(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    guard waiters.count + waiters.forLeader.count < limits.waitersMax else { throw .tooMany }
    let request: ConcurrencyRequest
    do { request = try ConcurrencyRequest(message, method) } catch { throw .malformed }
    var waiter = Waiter(kind: .lock, stage: .asking)
    waiter.name = request.name
    waiter.value = request.value
    waiter.lease = request.lease
    waiter.key = request.key
    waiter.revision = request.revision
    switch method {
    case .lock, .campaign:
      waiter.kind = method == .lock ? .lock : .campaign
      if waiter.lease == .none {
        waiter.stage = .granting
        calls.with(id) { $0.waiter = waiter }
        try grant(id, ttl: limits.sessionSeconds, .none, out: &out)
      } else {
        try acquire(id, &waiter, out: &out)
      }
    case .unlock:
      waiter.kind = .unlock
      calls.with(id) { $0.waiter = waiter }
      guard !request.key.isEmpty else { throw .emptyKey }
      try propose(id, .deleteRange, Compose.get(request.key).rawSpan, out: &out)
    case .proclaim, .resign:
      guard request.hasLeader else { throw .missingLeaderKey }
      guard !request.key.isEmpty else { throw .emptyKey }
      waiter.kind = method == .proclaim ? .proclaim : .resign
      calls.with(id) { $0.waiter = waiter }
      let op: (Int, [UInt8]) =
        method == .proclaim
        ? (2, Compose.put(waiter.key, value: waiter.value, lease: waiter.lease))
        : (3, Compose.get(waiter.key))
      let txn = Compose.txn(waiter.key, madeAt: waiter.revision, success: [op], failure: [])
      try propose(id, .txn, txn.rawSpan, out: &out)
    default:
      waiter.kind = method == .leader ? .leader : .observe
      calls.with(id) { $0.waiter = waiter }
      try search(id, Compose.firstMade(waiter))
    }
  }

  /// Puts the call's key unless it is there. etcd: `Mutex.tryAcquire`, `Election.Campaign`.
  private mutating func acquire(
    _ id: CallID, _ waiter: inout Waiter, out: inout Outbox
  ) throws(Failure) {
    let lease = UInt64(bitPattern: waiter.lease.rawValue)
    waiter.key = waiter.prefix + [UInt8](String(lease, radix: 16).utf8)
    waiter.stage = .acquiring
    calls.with(id) { $0.waiter = waiter }
    let put = (2, Compose.put(waiter.key, value: waiter.value, lease: waiter.lease))
    let own = (1, Compose.get(waiter.key))
    let owner = (1, Compose.firstMade(waiter))
    let txn =
      waiter.kind == .lock
      ? Compose.txn(waiter.key, madeAt: 0, success: [put, owner], failure: [own, owner])
      : Compose.txn(waiter.key, madeAt: 0, success: [put], failure: [own])
    try propose(id, .txn, txn.rawSpan, out: &out)
  }

  /// A linearizable read on behalf of the call.
  private mutating func search(_ id: CallID, _ request: [UInt8]) throws(Failure) {
    guard let range = try? RangeRequestView(request.rawSpan) else {
      preconditionFailure("a request of our own cannot be read")
    }
    try read(id, .range(range), request, isSerializable: false)
  }

  /// Takes the answer to the last request of a course and goes on.
  mutating func advance(
    _ id: CallID, failure: Failure?, _ response: RawSpan, out: inout Outbox
  ) {
    guard var waiter = calls[id]?.waiter else { return }
    do throws(Failure) {
      if let failure { throw failure }
      try advance(id, &waiter, response, out: &out)
    } catch {
      finish(id, error, out: &out)
    }
  }

  private mutating func advance(
    _ id: CallID, _ waiter: inout Waiter, _ response: RawSpan, out: inout Outbox
  ) throws(Failure) {
    switch waiter.stage {
    case .granting:
      waiter.lease = LeaseID(Reply.other(response).number)
      try acquire(id, &waiter, out: &out)
    case .acquiring: try acquired(id, &waiter, Reply.txn(response), out: &out)
    case .proclaiming:
      guard Reply.txn(response).succeeded else { throw .electionNotLeader }
      try searchOlder(id, &waiter)
    case .searching:
      let reply = Reply.range(response)
      if let older = reply.keyValue(0), let bytes = reply.found[0] {
        waiter.stage = .awaitingDelete
        waiter.awaited = bytes.rawSpan.extracting(older.key).copied()
        waiter.known = reply.revision
        calls.with(id) { $0.waiter = waiter }
        waiters.insert(id, key: waiter.awaited)
      } else if waiter.kind == .lock {
        waiter.stage = .confirming
        calls.with(id) { $0.waiter = waiter }
        try search(id, Compose.get(waiter.key))
      } else {
        won(id, waiter, out: &out)
      }
    case .confirming:
      let reply = Reply.range(response)
      guard reply.keyValue(0) != nil else { throw .sessionExpired }
      waiter.header = reply.header
      won(id, waiter, out: &out)
    case .asking: try answered(id, &waiter, response, out: &out)
    case .awaitingDelete, .awaitingLeader, .following: break
    }
  }

  private mutating func acquired(
    _ id: CallID, _ waiter: inout Waiter, _ reply: Reply, out: inout Outbox
  ) throws(Failure) {
    waiter.header = reply.header
    waiter.revision = reply.revision
    if !reply.succeeded {
      guard let own = reply.keyValue(0), let bytes = reply.found[0] else {
        throw .sessionExpired
      }
      waiter.revision = own.createRevision
      let value = bytes.rawSpan.extracting(own.value)
      if waiter.kind == .campaign, !value.equals(waiter.value.rawSpan) {
        waiter.stage = .proclaiming
        calls.with(id) { $0.waiter = waiter }
        let put = (2, Compose.put(waiter.key, value: waiter.value, lease: waiter.lease))
        let txn = Compose.txn(waiter.key, madeAt: waiter.revision, success: [put], failure: [])
        return try propose(id, .txn, txn.rawSpan, out: &out)
      }
    }
    if waiter.kind == .lock {
      let owner = reply.keyValue(reply.found.count - 1)
      if owner == nil || owner?.createRevision == waiter.revision {
        return won(id, waiter, out: &out)
      }
    }
    try searchOlder(id, &waiter)
  }

  /// Looks for the newest key that is older than the call's own. etcd: `waitDeletes`.
  private mutating func searchOlder(_ id: CallID, _ waiter: inout Waiter) throws(Failure) {
    waiter.stage = .searching
    calls.with(id) { $0.waiter = waiter }
    try search(id, Compose.lastMade(waiter, until: waiter.revision - 1))
  }

  /// Answers a Lock or a Campaign.
  private mutating func won(_ id: CallID, _ waiter: Waiter, out: inout Outbox) {
    var response = waiter.header
    if waiter.kind == .lock {
      response.appendField(2, waiter.key.rawSpan)
    } else {
      let mark = response.beginField(2, expecting: 0)
      response.appendField(1, waiter.name.rawSpan)
      response.appendField(2, waiter.key.rawSpan)
      response.appendField(3, waiter.revision)
      response.appendField(4, waiter.lease.rawValue)
      response.endField(mark)
    }
    // The key stays: the course is over, not given up.
    calls.with(id) { $0.waiter = nil }
    answer(id, response.rawSpan, out: &out)
  }

  /// Takes the answer to the one request of a short call, or of an Observe's search.
  private mutating func answered(
    _ id: CallID, _ waiter: inout Waiter, _ response: RawSpan, out: inout Outbox
  ) throws(Failure) {
    switch waiter.kind {
    case .unlock: return answer(id, Reply.other(response).header.rawSpan, out: &out)
    case .proclaim, .resign:
      let reply = Reply.txn(response)
      if waiter.kind == .proclaim, !reply.succeeded { throw .electionNotLeader }
      return answer(id, reply.header.rawSpan, out: &out)
    default: break
    }
    let reply = Reply.range(response)
    waiter.known = reply.revision
    guard let leader = reply.keyValue(0), let bytes = reply.found[0] else {
      if waiter.kind == .leader { throw .electionNoLeader }
      waiter.stage = .awaitingLeader
      calls.with(id) { $0.waiter = waiter }
      waiters.forLeader.append(id)
      return
    }
    var message = reply.header
    message.appendField(2, bytes.rawSpan)
    if waiter.kind == .leader { return answer(id, message.rawSpan, out: &out) }
    try tell(id, message.rawSpan, out: &out)
    follow(id, &waiter, bytes.rawSpan.extracting(leader.key).copied())
  }

  private mutating func follow(_ id: CallID, _ waiter: inout Waiter, _ key: [UInt8]) {
    waiter.stage = .following
    waiter.awaited = key
    calls.with(id) { $0.waiter = waiter }
    waiters.insert(id, key: key)
  }

  /// A call ends: it waits no longer, and a key that it put without having won goes.
  mutating func abandon(
    _ id: CallID, _ waiter: Waiter, _ credentials: Credentials?, out: inout Outbox
  ) {
    switch waiter.stage {
    case .awaitingDelete, .following: waiters.remove(id, key: waiter.awaited)
    case .awaitingLeader: waiters.forLeader.removeAll { $0 == id }
    default: break
    }
    guard waiter.ownsKey else { return }
    let request = Compose.get(waiter.key)
    guard !status.isAuthEnabled else {
      return access.waiting.append(
        Held(call: id, work: .orphan(.deleteRange, request, credentials)))
    }
    let requestID = ids.next()
    out.proposals.append(Proposal(.deleteRange, request.rawSpan, id: requestID))
  }
}

extension Services {
  /// Hands changes to those who wait for a key.
  mutating func wakeWaiters(_ batch: borrowing EventBatch, out: inout Outbox) {
    guard waiters.count > 0 || !waiters.forLeader.isEmpty else { return }
    let arena = batch.arena.rawSpan
    for event in batch.events {
      let key = arena.extracting(event.key)
      if event.kind == .put { wakeObservers(key, event, arena, out: &out) }
      guard waiters.count > 0, let list = waiters.byKey[key.copied()] else { continue }
      for id in list { wake(id, event, arena, out: &out) }
    }
  }

  /// The store was replaced by a snapshot, whose changes nobody was told of: whoever waits for a
  /// key asks anew.
  mutating func searchAnew(out: inout Outbox) {
    guard waiters.count > 0 || !waiters.forLeader.isEmpty else { return }
    for id in calls.ids {
      guard var waiter = calls[id]?.waiter else { continue }
      do throws(Failure) {
        switch waiter.stage {
        case .awaitingDelete:
          waiters.remove(id, key: waiter.awaited)
          try searchOlder(id, &waiter)
        case .following, .awaitingLeader:
          waiters.remove(id, key: waiter.awaited)
          waiters.forLeader.removeAll { $0 == id }
          waiter.stage = .asking
          let asking = waiter
          calls.with(id) { $0.waiter = asking }
          try search(id, Compose.firstMade(waiter))
        default: break
        }
      } catch {
        finish(id, error, out: &out)
      }
    }
  }

  private mutating func wake(
    _ id: CallID, _ event: EventBatch.Event, _ arena: RawSpan, out: inout Outbox
  ) {
    guard var waiter = calls[id]?.waiter, event.revision.main > waiter.known else { return }
    do throws(Failure) {
      switch (waiter.stage, event.kind) {
      case (.awaitingDelete, .delete):
        waiters.remove(id, key: waiter.awaited)
        try searchOlder(id, &waiter)
      case (.following, .delete):
        waiters.remove(id, key: waiter.awaited)
        waiter.stage = .asking
        calls.with(id) { $0.waiter = waiter }
        try search(id, Compose.firstMade(waiter))
      case (.following, .put): try observe(id, event, arena, out: &out)
      default: break
      }
    } catch {
      finish(id, error, out: &out)
    }
  }

  private mutating func wakeObservers(
    _ key: RawSpan, _ event: EventBatch.Event, _ arena: RawSpan, out: inout Outbox
  ) {
    guard !waiters.forLeader.isEmpty else { return }
    let waiting = waiters.forLeader
    for id in waiting {
      guard var waiter = calls[id]?.waiter, event.revision.main > waiter.known else { continue }
      let prefix = waiter.prefix
      guard key.byteCount >= prefix.count,
        key.extracting(first: prefix.count).equals(prefix.rawSpan)
      else { continue }
      waiters.forLeader.removeAll { $0 == id }
      do throws(Failure) { try observe(id, event, arena, out: &out) } catch {
        finish(id, error, out: &out)
        continue
      }
      waiter.known = event.revision.main
      follow(id, &waiter, key.copied())
    }
  }

  /// Sends a LeaderResponse for a put of the leader's key.
  private mutating func observe(
    _ id: CallID, _ event: EventBatch.Event, _ arena: RawSpan, out: inout Outbox
  ) throws(Failure) {
    var header = header
    header.revision = event.revision.main
    var message: [UInt8] = []
    message.appendHeader(header)
    message.appendField(2, arena.extracting(event.keyValue))
    try tell(id, message.rawSpan, out: &out)
  }

  /// Sends a message to an observer; one that does not read is sent away.
  private mutating func tell(
    _ id: CallID, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    if calls[id]?.isFull == true { throw .tooMany }
    send(id, .observe, message, out: &out)
  }
}

/// A request of the lock or the election service; their fields differ, their parts do not.
struct ConcurrencyRequest {
  var name: [UInt8] = []
  var value: [UInt8] = []
  var key: [UInt8] = []
  var lease = LeaseID.none
  var revision: Int64 = 0
  var hasLeader = false

  init(_ bytes: RawSpan, _ method: Method) throws(DecodeError) {
    var reader = ProtoReader(bytes)
    while let tag = try reader.nextTag() {
      switch (method, tag.field) {
      case (.lock, 1), (.campaign, 1), (.leader, 1), (.observe, 1):
        name = bytes.extracting(try reader.bytes(tag)).copied()
      case (.lock, 2), (.campaign, 2): lease = LeaseID(try reader.int64(tag))
      case (.campaign, 3), (.proclaim, 2):
        value = bytes.extracting(try reader.bytes(tag)).copied()
      case (.unlock, 1): key = bytes.extracting(try reader.bytes(tag)).copied()
      case (.proclaim, 1), (.resign, 1): try readLeader(try reader.bytes(tag), bytes)
      default: try reader.skip(tag)
      }
    }
  }

  /// v3electionpb.LeaderKey.
  private mutating func readLeader(_ message: Slice, _ bytes: RawSpan) throws(DecodeError) {
    hasLeader = true
    var reader = ProtoReader(bytes, in: message)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: name = bytes.extracting(try reader.bytes(tag)).copied()
      case 2: key = bytes.extracting(try reader.bytes(tag)).copied()
      case 3: revision = try reader.int64(tag)
      case 4: lease = LeaseID(try reader.int64(tag))
      default: try reader.skip(tag)
      }
    }
  }
}
