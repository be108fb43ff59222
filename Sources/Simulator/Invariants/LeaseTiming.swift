internal import API
internal import Basics
internal import Raft
internal import Replica

/// A lease never ends before the time that its holder was promised, and not long after it.
/// etcd: lease/lessor.go; issues 15247 and 13167.
struct LeaseTiming {
  private struct Lease {
    var id: LeaseID
    /// In nanoseconds.
    var ttl: UInt64
    /// Until when the holder may count on it, by the slowest and fastest clocks.
    var promisedUntil: UInt64
    var wasRevokedByHolder = false
    var endedAt: UInt64?
  }

  private var leases: [Lease] = []

  private func position(_ id: LeaseID) -> Int? { leases.firstIndex { $0.id == id } }

  /// The holder was told of `ttl` seconds, in answer to what it sent at `sentAt`.
  mutating func promised(
    _ id: LeaseID, ttl: Int64, sentAt: UInt64, drift: Int64
  ) -> String? {
    let whole = UInt64(ttl) * 1_000_000_000
    // Two clocks may differ by twice the drift; a tick of the member's clock comes on top.
    let until = sentAt + whole - whole / 1_000_000 * UInt64(2 * drift)
    guard let at = position(id) else {
      leases.append(Lease(id: id, ttl: whole, promisedUntil: until))
      return nil
    }
    leases[at].promisedUntil = max(leases[at].promisedUntil, until)
    if let ended = leases[at].endedAt, !leases[at].wasRevokedByHolder, ended < until {
      return "lease \(id.rawValue) had ended when its holder was promised more"
    }
    return nil
  }

  /// The holder asks for its end.
  mutating func revoking(_ id: LeaseID) {
    if let at = position(id) { leases[at].wasRevokedByHolder = true }
  }

  mutating func committed(_ entry: Entry, now: UInt64, _ node: NodeID, checks: Checks) {
    guard entry.kind == .normal, !entry.data.isEmpty,
      let view = try? InternalRaftRequestView(entry.data.rawSpan), view.kind == .leaseRevoke,
      let id = Self.lease(entry.data.rawSpan, view.request)
    else { return }
    guard let at = position(id) else {
      // Its holder has not heard of it yet.
      leases.append(Lease(id: id, ttl: 0, promisedUntil: 0, endedAt: now))
      return
    }
    guard leases[at].endedAt == nil else { return }
    leases[at].endedAt = now
    if !leases[at].wasRevokedByHolder, now < leases[at].promisedUntil {
      let early = (leases[at].promisedUntil - now) / 1_000_000
      checks.expectOfLeases("lease never early", "lease \(id.rawValue) ends \(early) ms early")
    }
  }

  private static func lease(_ bytes: RawSpan, _ request: Slice) -> LeaseID? {
    var reader = ProtoReader(bytes, in: request)
    while let tag = try? reader.nextTag() {
      if tag.field == 1, let id = try? reader.int64(tag) { return LeaseID(id) }
      guard (try? reader.skip(tag)) != nil else { return nil }
    }
    return nil
  }

  /// A while after the last promise, and after the last leader's beginning, every lease has ended.
  func overdue(_ now: UInt64, since elected: UInt64, slack: UInt64) -> String? {
    for lease in leases where lease.endedAt == nil {
      let end = max(lease.promisedUntil, elected + lease.ttl) + lease.ttl / 4 + slack
      if end < now {
        return "lease \(lease.id.rawValue) outlives its promise by \((now - end) / 1_000_000) ms"
      }
    }
    return nil
  }
}
