internal import API
internal import Auth
internal import Basics
internal import MVCC
internal import Membership
public import Raft

extension Replica {
  /// Applies committed entries, in order and without a gap, at the time `now` (monotonic
  /// nanoseconds). Entries up to the store's consistent index are applied to membership only.
  /// An entry that cannot be read ends the process: to go on would be to diverge. So does one
  /// that cannot be carried out since a row cannot be read: that and what follows it is left, and
  /// `Outcome.broken` tells why.
  public mutating func apply(_ entries: [Entry], now: UInt64, into outcome: inout Outcome) {
    backendBytes = store.backend.sizes().total
    for entry in entries {
      precondition(
        appliedIndex == .zero || entry.index == appliedIndex + 1, "an entry is missing")
      let isNew = store.consistentIndex < entry.index
      appliedTerm = entry.term
      switch entry.kind {
      case .normal: applyNormal(entry, isNew: isNew, now: now, &outcome)
      case .confChange: applyConfiguration(entry, isNew: isNew, &outcome)
      case .confChangeV2: preconditionFailure("joint configuration changes are not used by etcd")
      }
      guard outcome.broken == nil else { return }
      if isNew { store.setConsistentIndex(entry.index, term: entry.term) }
      appliedIndex = entry.index
    }
  }

  private mutating func applyNormal(
    _ entry: Entry, isNew: Bool, now: UInt64, _ outcome: inout Outcome
  ) {
    guard !entry.data.isEmpty else {
      // The first entry of a leader: all of the terms before it has been applied.
      startedTerm = entry.term
      promoteIfLeading(now: now)
      return
    }
    let bytes = entry.data.rawSpan
    guard let (id, who, request) = try? InternalRequest.decode(bytes) else {
      applyV2(Slice(start: 0, count: bytes.byteCount), bytes, isNew: isNew, &outcome)
      return
    }
    if applyMembership(request, bytes, id: id, isNew: isNew, &outcome) {
      tally.applied(request.operation, isDone: true)
      return
    }
    guard isNew else { return }
    let before = tally.operations
    let isWanted = loop(of: id, outcome) != nil
    do throws(Failure) {
      var response = scratch
      scratch = []
      response.removeAll(keepingUpTo: 4 << 20)
      defer { scratch = response }
      let isDone = try carryOut(
        request, bytes, id: id, by: who, isWanted: isWanted, now: now, into: &response,
        &outcome)
      if isDone, isWanted { complete(id, response: response, &outcome) }
      tally.applied(request.operation, isDone: true)
      if case .leaseRevoke = request,
        RequestIDs.loop(of: id, member: config.member) == RequestIDs.loopsMax
      {
        tally.leasesExpired += 1
      }
    } catch {
      if error.isOfStorage {
        outcome.broken = error.text
        return
      }
      tally.applied(request.operation, isDone: false)
      if error == .noSpace { raiseNoSpace(&outcome) }
      if isWanted { complete(id, failure: error, &outcome) }
    }
    if tally.operations - before > 1 { tally.txns += 1 }
  }

  /// Carries out a request on the v3 state. False: the answer comes later.
  private mutating func carryOut(
    _ request: InternalRequest, _ bytes: RawSpan, id: UInt64, by who: Principal, isWanted: Bool,
    now: UInt64, into response: inout [UInt8], _ outcome: inout Outcome
  ) throws(Failure) -> Bool {
    try checkAlarms(request)
    try checkPermission(request, bytes, by: who)
    let hasRoom = hasRoom(for: request)
    switch request {
    case .range(let range):
      guard isWanted else { return false }
      try self.range(range, bytes, header: header, into: &response)
    case .put(let put): try apply(put, bytes, into: &response, &outcome)
    case .deleteRange(let delete): try apply(delete, bytes, into: &response, &outcome)
    case .txn(let txn):
      try apply(txn, bytes, isWanted: isWanted, into: &response, &outcome)
    case .compaction(let numbers):
      return try compact(numbers, id: id, isWanted: isWanted, into: &response)
    case .leaseGrant(let numbers): try grant(numbers, now: now, into: &response)
    case .leaseRevoke(let numbers): try revoke(numbers, into: &response, &outcome)
    case .leaseCheckpoint(let checkpoints): checkpoint(checkpoints, now: now, into: &response)
    case .alarm(let numbers): apply(alarm: numbers, into: &response, &outcome)
    case .auth(let kind, let message):
      try apply(auth: kind, message, bytes, by: who, now: now, into: &response)
    case .v2, .clusterVersion, .memberAttributes, .downgrade: return true
    case .unknown: preconditionFailure("the log holds a request that this version cannot apply")
    }
    guard hasRoom else { throw .noSpace }
    return true
  }

  private mutating func raiseNoSpace(_ outcome: inout Outcome) {
    guard !alarms.isActive(.noSpace), !noSpaceProposed else { return }
    noSpaceProposed = true
    outcome.proposals.append(
      Alarms.proposal(.noSpace, of: config.member, id: ids.next()))
  }
}
