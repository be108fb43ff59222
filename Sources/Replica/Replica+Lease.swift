internal import API
public import Basics
internal import Lease
internal import MVCC
internal import Membership
internal import Raft

extension Failure {
  init(_ error: LeaseError) {
    switch error {
    case .notFound: self = .leaseNotFound
    case .exists: self = .leaseExists
    case .tooLarge: self = .leaseTTLTooLarge
    case .notPrimary: self = .notPrimary
    }
  }
}

extension Replica {
  /// The key of a lease's row: the ID, big endian.
  static func row(_ lease: LeaseID) -> [UInt8] {
    [UInt8](bigEndian: UInt64(bitPattern: lease.rawValue))
  }

  /// leasepb.Lease.
  private static func record(_ lease: LeaseID, ttl: Int64, remaining: Int64) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, lease.rawValue)
    bytes.appendField(2, ttl)
    bytes.appendField(3, remaining)
    return bytes
  }

  /// LeaseGrantRequest {TTL=1, ID=2}.
  mutating func grant(
    _ request: Numbers, now: UInt64, into response: inout [UInt8]
  ) throws(Failure) {
    let lease = LeaseID(request.signed(2))
    let ttl: Int64
    do { ttl = try lessor.grant(lease, ttl: request.signed(1), now: now) } catch {
      throw Failure(error)
    }
    store.putMeta(
      bucket: .lease, key: Self.row(lease),
      value: Self.record(lease, ttl: ttl, remaining: 0))
    tally.granted(ttl: ttl)
    response.appendHeader(header)
    response.appendField(2, lease.rawValue)
    response.appendField(3, ttl)
  }

  /// LeaseRevokeRequest {ID=1}: removes the lease and, in one revision, its keys in bytewise
  /// order.
  mutating func revoke(
    _ request: Numbers, into response: inout [UInt8], _ outcome: inout Outcome
  ) throws(Failure) {
    let lease = LeaseID(request.signed(1))
    let keys: [[UInt8]]
    do { keys = try lessor.revoke(lease) } catch { throw Failure(error) }
    tally.leasesRevoked += 1
    tally.deletes += keys.count
    store.begin()
    for key in keys {
      _ = store.deleteRange(from: key.rawSpan, to: RawSpan()) { _ in }
    }
    store.removeMeta(bucket: .lease, key: Self.row(lease))
    store.end(into: &outcome.events)
    response.appendHeader(header)
  }

  /// Notes remaining times. The response is also that of the keep-alive which took one back.
  mutating func checkpoint(
    _ checkpoints: [(lease: LeaseID, remaining: Int64)], now: UInt64,
    into response: inout [UInt8]
  ) {
    response.appendHeader(header)
    if checkpoints.count == 1 { response.appendField(2, checkpoints[0].lease.rawValue) }
    for (lease, remaining) in checkpoints {
      guard let ttl = lessor.checkpoint(lease, remaining: remaining, now: now) else { continue }
      if checkpoints.count == 1 { response.appendField(3, ttl) }
      // etcd keeps them where it is told to, and everywhere from 3.6 on.
      let isKeptAnyway = (cluster.version ?? .zero) >= ClusterVersion(major: 3, minor: 6, patch: 0)
      guard isKeptAnyway || lessor.config.keepsCheckpoints else { continue }
      store.putMeta(
        bucket: .lease, key: Self.row(lease),
        value: Self.record(lease, ttl: ttl, remaining: remaining))
    }
  }

  /// Tells the replica whether this member leads, and in which term. A leader's leases run from
  /// when all of the terms before its own has been applied; no one else's run at all.
  public mutating func roleChanged(leads term: Term?, now: UInt64) {
    if leadingTerm != term, lessor.isPrimary { lessor.demote() }
    leadingTerm = term
    promoteIfLeading(now: now)
  }

  mutating func promoteIfLeading(now: UInt64) {
    guard let leadingTerm, leadingTerm == startedTerm, !lessor.isPrimary else { return }
    lessor.promote(extend: config.electionTimeout, now: now)
  }

  /// Proposes revocations for the leases that have run out by `now`. Called on every tick, on
  /// the leader only to any effect.
  public mutating func tick(now: UInt64, into outcome: inout Outcome) {
    // A snapshot that is held keeps pages of the store from being used again.
    reader.reset()
    if !isHashing { hashReader.reset() }
    for lease in lessor.expired(now: now, limit: config.revocationsMax) {
      var request: [UInt8] = []
      request.appendField(1, lease.rawValue)
      let id = ids.next()
      var proposal = Proposal(.leaseRevoke, request.rawSpan, id: id, by: ownPrincipal)
      // Another leader may have prolonged the lease meanwhile. etcd: issue 15247.
      proposal.leading = leadingTerm
      outcome.proposals.append(proposal)
    }
    let due = lessor.dueCheckpoints(now: now, limit: Self.checkpointsMax)
    if !due.isEmpty { propose(due, id: ids.next(), &outcome) }
  }

  /// How many checkpoints go into one proposal. etcd: `maxLeaseCheckpointBatchSize`.
  private static var checkpointsMax: Int { 1000 }

  mutating func propose(
    _ checkpoints: [RemainingTime], id: UInt64, _ outcome: inout Outcome
  ) {
    var request: [UInt8] = []
    for checkpoint in checkpoints {
      let open = request.beginField(1, expecting: 16)
      request.appendField(1, checkpoint.lease.rawValue)
      request.appendField(2, checkpoint.remaining)
      request.endField(open)
    }
    var proposal = Proposal(.leaseCheckpoint, request.rawSpan, id: id)
    proposal.leading = leadingTerm
    outcome.proposals.append(proposal)
  }
}
