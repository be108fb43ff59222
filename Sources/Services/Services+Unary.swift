internal import API
internal import Auth
internal import Basics
internal import MVCC
internal import Membership
internal import Replica

extension Services {
  /// Serves the request of a call with only one.
  mutating func receive(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    switch method {
    case .range, .put, .deleteRange, .txn, .compact:
      try receiveKV(id, method, message, out: &out)
    case .leaseGrant, .leaseRevoke, .leaseTimeToLive, .leaseLeases:
      try receiveLease(id, method, message, out: &out)
    case .memberAdd, .memberRemove, .memberUpdate, .memberList, .memberPromote:
      try receiveCluster(id, method, message, out: &out)
    case .alarm, .status, .defragment, .hash, .hashKV, .snapshot, .moveLeader, .downgrade:
      try receiveMaintenance(id, method, message, out: &out)
    case .lock, .unlock, .campaign, .proclaim, .leader, .observe, .resign:
      try receiveConcurrency(id, method, message, out: &out)
    case .authEnable, .authDisable, .authStatus, .authenticate, .userAdd, .userGet, .userList,
      .userDelete, .userChangePassword, .userGrantRole, .userRevokeRole, .roleAdd, .roleGet,
      .roleList, .roleDelete, .roleGrantPermission, .roleRevokePermission:
      try receiveAuth(id, method, message, out: &out)
    case .healthCheck, .healthWatch: try receiveHealth(id, method, message, out: &out)
    case .watch, .leaseKeepAlive: preconditionFailure("a stream is not served here")
    }
  }

  /// Proposes a request: its own bytes as the field `field` of an entry. Who makes it has to be
  /// found out first when that matters.
  mutating func propose(
    _ id: CallID, _ kind: Proposal.RequestKind, _ request: RawSpan, out: inout Outbox
  ) throws(Failure) {
    if status.isAuthEnabled { return try hold(id, .proposal(kind, request.copied())) }
    try propose(id, kind, request, by: .none, out: &out)
  }

  mutating func propose(
    _ id: CallID, _ kind: Proposal.RequestKind, _ request: RawSpan, by who: Principal,
    out: inout Outbox
  ) throws(Failure) {
    let gap = status.commitIndex - status.appliedIndex
    guard gap <= 0 || UInt64(gap) <= limits.applyGapMax else { throw .tooMany }
    let requestID = try wait(id)
    let proposal = Proposal(kind, request, id: requestID, by: who)
    guard proposal.data.count <= limits.requestBytesMax else {
      _ = waits.take(requestID)
      throw .tooLarge
    }
    out.proposals.append(proposal)
  }

  /// Asks the apply thread.
  mutating func ask(_ id: CallID, _ kind: Query.Kind, out: inout Outbox) throws(Failure) {
    if status.isAuthEnabled { return try hold(id, .query(kind)) }
    try ask(id, kind, by: .none, out: &out)
  }

  mutating func ask(
    _ id: CallID, _ kind: Query.Kind, by who: Principal, out: inout Outbox
  ) throws(Failure) {
    let isLong =
      switch kind {
      case .defragment, .hash, .hashKV: true
      default: false
      }
    out.queries.append(Query(id: try wait(id, isLong: isLong), kind: kind, by: who))
  }

  /// An ID under which the call waits for a completion.
  mutating func wait(_ id: CallID, isLong: Bool = false) throws(Failure) -> UInt64 {
    guard waits.count + longWaits.count < limits.requestsInFlightMax else { throw .tooMany }
    let requestID = ids.next()
    if isLong {
      longWaits.append(id: requestID, call: id, deadline: .max)
    } else {
      waits.append(id: requestID, call: id, deadline: status.now &+ limits.requestTimeout)
    }
    return requestID
  }

  /// Queues a read: for the store when any state will do, else for a read index first.
  mutating func read(
    _ id: CallID, _ kind: Read.Kind, _ message: [UInt8], isSerializable: Bool
  ) throws(Failure) {
    guard reads.count < limits.readsWaitingMax else { throw .tooMany }
    let read = Read(
      call: id, kind: kind, message: message, deadline: status.now &+ limits.requestTimeout)
    if isSerializable { makeReady(read) } else { reads.collecting.append(read) }
  }

  /// Refuses what the quota has no room for and raises the alarm. etcd: `quotaAlarmer`.
  mutating func checkQuota(_ cost: Int, out: inout Outbox) throws(Failure) {
    guard
      !Quota.hasRoom(for: cost, used: status.databaseBytes, quota: status.quotaBytes)
    else { return }
    if !status.alarms.contains(where: { $0.kind == .noSpace && $0.member == status.member }) {
      out.proposals.append(Alarms.proposal(.noSpace, of: status.member, id: ids.next()))
    }
    throw .noSpace
  }

  private mutating func receiveKV(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    switch method {
    case .range:
      let request = try RangeRequestView(whole: message)
      try Checks.check(request)
      try read(id, .range(request), message.copied(), isSerializable: request.serializable)
    case .put:
      let request = try PutRequestView(whole: message)
      try checkQuota(request.cost, out: &out)
      try Checks.check(request)
      try propose(id, .put, message, out: &out)
    case .deleteRange:
      try Checks.check(try DeleteRangeRequestView(whole: message))
      try propose(id, .deleteRange, message, out: &out)
    case .txn:
      let request = try Txn(whole: message)
      try checkQuota(request.cost, out: &out)
      try Checks.check(request, operationsMax: limits.txnOperationsMax)
      try Checks.checkOverlaps(request, message)
      if request.isReadOnly {
        try read(id, .txn(request), message.copied(), isSerializable: request.isSerializable)
      } else {
        try propose(id, .txn, message, out: &out)
      }
    default:
      _ = try CompactionRequestView(whole: message)
      try propose(id, .compaction, message, out: &out)
    }
  }

  private mutating func receiveHealth(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    let service = try Texts(message).first(1)
    var response: [UInt8] = []
    if service.isEmpty {
      response.appendField(1, (status.isServing ? 1 : 2) as UInt64)
    } else if method == .healthWatch {
      response.appendField(1, 3 as UInt64)
    } else {
      throw Failure(.notFound, "unknown service")
    }
    if method == .healthCheck {
      answer(id, response.rawSpan, out: &out)
    } else {
      send(id, .healthWatch, response.rawSpan, out: &out)
    }
  }
}
