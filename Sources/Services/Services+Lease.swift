internal import API
internal import Auth
internal import Basics
internal import MVCC
internal import Replica

extension Services {
  mutating func receiveLease(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    let numbers = try Numbers(whole: message)
    switch method {
    case .leaseGrant:
      try checkQuota(Quota.leaseCost, out: &out)
      try grant(id, ttl: numbers.signed(1), LeaseID(numbers.signed(2)), out: &out)
    case .leaseRevoke: try propose(id, .leaseRevoke, message, out: &out)
    case .leaseTimeToLive:
      let query = Query.Kind.timeToLive(LeaseID(numbers.signed(1)), withKeys: numbers[2] != 0)
      try askPermitted(id, query, out: &out)
    default: try ask(id, .leases, out: &out)
    }
  }

  /// Proposes a grant; a lease without an ID gets one here, since chance has no place on apply.
  mutating func grant(
    _ id: CallID, ttl: Int64, _ lease: LeaseID, out: inout Outbox
  ) throws(Failure) {
    var lease = lease
    while lease == .none { lease = LeaseID(Int64(random.next() >> 1)) }
    var request: [UInt8] = []
    request.appendField(1, ttl)
    request.appendField(2, lease.rawValue)
    try propose(id, .leaseGrant, request.rawSpan, out: &out)
  }

  /// Serves one message of a stream.
  mutating func receiveStreamed(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    guard method == .leaseKeepAlive else {
      if status.isAuthEnabled || (calls[id]?.heldMessages ?? 0) > 0 {
        try hold(id, .message(message.copied()))
        calls.with(id) { $0.heldMessages += 1 }
        return
      }
      return try receiveWatch(id, message, out: &out)
    }
    let numbers = try Numbers(whole: message)
    guard let call = calls[id], call.outstanding < limits.keepAlivesPerStreamMax, !call.isFull
    else { throw .tooMany }
    try askPermitted(id, .keepAlive(LeaseID(numbers.signed(1))), out: &out)
    calls.with(id) { $0.outstanding += 1 }
  }

  /// Asks the leader, while authentication is on only when the client may: this member knows that
  /// too, and nobody checks it behind it.
  private mutating func askPermitted(
    _ id: CallID, _ kind: Query.Kind, out: inout Outbox
  ) throws(Failure) {
    guard status.isAuthEnabled else { return try askLeader(id, kind, out: &out) }
    switch kind {
    case .keepAlive(let lease): try hold(id, .query(.leaseAccess(lease, writes: true)))
    case .timeToLive(let lease, withKeys: true):
      try hold(id, .query(.leaseAccess(lease, writes: false)))
    default: return try askLeader(id, kind, out: &out)
    }
    calls.with(id) { $0.questions.append(kind) }
  }

  /// The client may ask what it has asked first.
  mutating func leasePermitted(_ id: CallID, out: inout Outbox) {
    let next = calls.with(id) { $0.questions.isEmpty ? nil : $0.questions.removeFirst() }
    guard let kind = next ?? nil else { return }
    do throws(Failure) { try askLeader(id, kind, out: &out) } catch {
      finish(id, error, out: &out)
    }
  }

  /// Only the leader knows how long leases have left: another member asks it.
  private mutating func askLeader(
    _ id: CallID, _ kind: Query.Kind, out: inout Outbox
  ) throws(Failure) {
    switch kind {
    case .keepAlive where status.isLeader:
      // Only after a quorum has confirmed that this member leads: one that was stopped for a while
      // may not know that another has counted the lease's time since. etcd: `ensureLeadership`.
      try read(id, .query(kind), [], isSerializable: false)
    case .keepAlive(let lease):
      out.forwards.append(Forward(id: try wait(id), kind: .keepAlive(lease)))
    case .timeToLive(let lease, let withKeys) where !status.isLeader:
      out.forwards.append(
        Forward(id: try wait(id), kind: .timeToLive(lease, withKeys: withKeys)))
    default: try ask(id, kind, by: .none, out: &out)
    }
  }
}
