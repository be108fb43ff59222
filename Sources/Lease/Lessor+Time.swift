public import Basics

/// How long a lease has left, and what it holds.
public struct LeaseState: Equatable, Sendable {
  /// Seconds.
  public var granted: Int64
  /// Whole seconds, rounded down; below 0 when it ran out that long ago.
  public var remaining: Int64
  /// In the order of attaching, more or less.
  public var keys: [[UInt8]]
}

/// The time that a lease has left, to be put on record.
public struct RemainingTime: Equatable, Sendable {
  public var lease: LeaseID
  /// Seconds; 0 takes a record back.
  public var remaining: Int64

  public init(lease: LeaseID, remaining: Int64) {
    self.lease = lease
    self.remaining = remaining
  }
}

extension Lessor {
  /// Starts a lease's time anew; returns its TTL. A lease that has run out is as good as gone: its
  /// revocation is on the way. `resetsCheckpoint`: whether a remaining time is on record, or may
  /// be soon, that must be taken back by a checkpoint of 0 before the holder hears of the renewal:
  /// the next leader would count from it.
  public mutating func renew(
    _ id: LeaseID, now: UInt64
  ) throws(LeaseError) -> (ttl: Int64, resetsCheckpoint: Bool) {
    guard isPrimary else { throw .notPrimary }
    guard let slot = slot(id), let lease = slots[slot], lease.expiry > now else {
      throw .notFound
    }
    refresh(slot, seconds: lease.ttl, now: now, extend: 0)
    return (lease.ttl, lease.remaining > 0 || lease.checkpointsUnderway > 0)
  }

  /// Nil when there is no such lease. Without being primary, the whole TTL is what is left.
  public func status(_ id: LeaseID, now: UInt64) -> LeaseState? {
    guard let slot = slot(id), let lease = slots[slot] else { return nil }
    let remaining: Int64
    if lease.expiry == .max {
      remaining = lease.ttl
    } else if lease.expiry >= now {
      remaining = Int64((lease.expiry - now) / Lessor.second)
    } else {
      remaining = -Int64((now - lease.expiry) / Lessor.second)
    }
    return LeaseState(granted: lease.ttl, remaining: remaining, keys: lease.keys)
  }

  /// All leases, those that run out first in front.
  public var leases: [LeaseID] {
    slots.compactMap { $0 }.sorted { ($0.expiry, $0.id) < ($1.expiry, $1.id) }.map(\.id)
  }

  /// Up to `limit` leases that have run out by `now`, the longest ago first. A lease that is still
  /// there after a while is given again: its revocation may have been lost.
  public mutating func expired(now: UInt64, limit: Int) -> [LeaseID] {
    guard isPrimary else { return [] }
    var found: [LeaseID] = []
    while found.count < limit, let first = expiries.first, first.time <= now {
      found.append(first.lease)
      expiries.set(first.slot, first.lease, to: Lessor.sum(now, Lessor.retryInterval))
    }
    return found
  }

  /// Up to `limit` checkpoints that are due by `now`. etcd: `checkpointScheduledLeases`.
  public mutating func dueCheckpoints(now: UInt64, limit: Int) -> [RemainingTime] {
    guard isPrimary else { return [] }
    var due: [RemainingTime] = []
    while due.count < limit, let first = checkpoints.first, first.time <= now {
      checkpoints.remove(first.slot)
      guard let lease = slots[first.slot], lease.expiry > now, lease.expiry != .max else {
        continue
      }
      // Rounded up: a lease must not end early by what is on record.
      let remaining = Int64((lease.expiry - now + Lessor.second - 1) / Lessor.second)
      guard remaining < lease.ttl else { continue }
      due.append(RemainingTime(lease: lease.id, remaining: remaining))
      slots[first.slot]?.checkpointsUnderway += 1
    }
    return due
  }

  /// Takes a remaining time from the log; it counts from the next promotion on. Returns the TTL
  /// of the lease, for its record; nil when there is none.
  public mutating func checkpoint(_ id: LeaseID, remaining: Int64, now: UInt64) -> Int64? {
    guard let slot = slot(id), let lease = slots[slot] else { return nil }
    slots[slot]?.remaining = max(remaining, 0)
    if remaining > 0, lease.checkpointsUnderway > 0 { slots[slot]?.checkpointsUnderway -= 1 }
    if isPrimary {
      scheduleCheckpoint(slot, seconds: remaining > 0 ? remaining : lease.ttl, now: now)
    }
    return lease.ttl
  }

  /// What is on record is this old at most, if there is that much time left.
  mutating func scheduleCheckpoint(_ slot: Int, seconds: Int64, now: UInt64) {
    guard let interval = config.checkpointInterval, let lease = slots[slot] else { return }
    guard Lessor.nanoseconds(seconds) > interval else { return checkpoints.remove(slot) }
    checkpoints.set(slot, lease.id, to: Lessor.sum(now, interval))
  }

  /// Moves expiries apart where too many fall into one second. etcd: the end of `Promote`.
  mutating func spread(extend: UInt64, now: UInt64) {
    guard count >= config.revocationsPerSecond else { return }
    let order = leases
    let target = max(3 * config.revocationsPerSecond / 4, 1)
    var base: UInt64 = 0
    var next: UInt64 = 0
    var inWindow = 0
    for (place, id) in order.enumerated() {
      guard let slot = slot(id), let lease = slots[slot] else { continue }
      let left = lease.expiry - now
      if place == 0 || left > next {
        base = left
        next = Lessor.sum(base, Lessor.second)
        inWindow = 1
        continue
      }
      inWindow += 1
      guard inWindow > target else { continue }
      // One second more for every `target` leases, less what it is ahead of the window.
      let ahead = left - base
      let delay = UInt64(inWindow) * Lessor.second / UInt64(target)
      let more = delay > ahead ? delay - ahead : 0
      next = Lessor.sum(base, delay)
      refresh(
        slot, seconds: lease.recorded, now: now, extend: Lessor.sum(extend, more))
    }
  }
}
