public import Basics

/// Why a lease is not given or not prolonged. etcd: lease/lessor.go.
public enum LeaseError: Error, Equatable, Sendable {
  case notFound, exists, tooLarge
  /// Only the leader's lessor knows how long leases have left.
  case notPrimary
}

/// What a lessor is set to.
public struct LessorConfig: Sendable {
  /// Seconds; shorter leases are made this long. etcd: one and a half elections, rounded up.
  public var ttlMin: Int64
  /// How many leases may run out within a second when a new leader starts their time anew.
  /// etcd: `leaseRevokeRate`.
  public var revocationsPerSecond: Int
  /// How often the remaining time of a long lease is put on record; nil: never. Nanoseconds.
  public var checkpointInterval: UInt64?
  /// Whether what is put on record outlasts a restart of the member.
  /// etcd: `--experimental-enable-lease-checkpoint-persist`.
  public var keepsCheckpoints = false

  public init(ttlMin: Int64, revocationsPerSecond: Int, checkpointInterval: UInt64?) {
    precondition(revocationsPerSecond > 0)
    self.ttlMin = ttlMin
    self.revocationsPerSecond = revocationsPerSecond
    self.checkpointInterval = checkpointInterval
  }
}

/// The leases and the keys attached to them. etcd: `lease.lessor`.
///
/// Which leases there are and what they hold is decided by the log alone; when they run out is
/// known to the primary only, the lessor of the leader. Times are monotonic, in nanoseconds, and
/// handed in; TTLs are seconds.
public struct Lessor: ~Copyable {
  /// The longest TTL. etcd: `MaxLeaseTTL`.
  public static let ttlMax: Int64 = 9_000_000_000
  /// After how long a lease that has run out and is still there is reported again.
  static let retryInterval: UInt64 = 3_000_000_000
  static let second: UInt64 = 1_000_000_000

  struct Lease {
    var id: LeaseID
    var ttl: Int64
    /// What the log says is left of the TTL; 0: all of it.
    var remaining: Int64
    /// Checkpoints that are on their way into the log, perhaps. Of a primary.
    var checkpointsUnderway = 0
    /// The largest number while this lessor is not primary.
    var expiry: UInt64
    var keys: [[UInt8]] = []

    /// What is left by the log, in seconds.
    var recorded: Int64 { remaining > 0 ? remaining : ttl }
  }

  struct Holder {
    var slot: Int
    /// Its place in the lease's keys.
    var place: Int
  }

  public let config: LessorConfig
  public private(set) var isPrimary = false
  /// By slot; nil when free.
  var slots: [Lease?] = []
  private var free: [Int] = []
  // Both are looked up, never walked through.
  private var slotOf: [LeaseID: Int] = [:]
  private var holders: [[UInt8]: Holder] = [:]
  var expiries = TimeHeap()
  var checkpoints = TimeHeap()

  public init(config: LessorConfig) { self.config = config }

  public var count: Int { slotOf.count }

  /// Whether the lease is there, its time up or not.
  public func exists(_ id: LeaseID) -> Bool { slotOf[id] != nil }

  /// What a lease holds, in the order of attaching, more or less; nothing when there is none such.
  public func keys(of id: LeaseID) -> [[UInt8]] { slot(id).flatMap { slots[$0]?.keys } ?? [] }

  /// Takes a lease from its record, at a start.
  public mutating func restore(_ id: LeaseID, ttl: Int64, remaining: Int64) {
    guard id != .none, slotOf[id] == nil else { return }
    insert(
      Lease(id: id, ttl: max(ttl, config.ttlMin), remaining: max(remaining, 0), expiry: .max))
  }

  /// Makes a lease; returns its TTL, which may be more than was asked for.
  public mutating func grant(
    _ id: LeaseID, ttl: Int64, now: UInt64
  ) throws(LeaseError) -> Int64 {
    guard id != .none else { throw .notFound }
    guard ttl <= Lessor.ttlMax else { throw .tooLarge }
    guard slotOf[id] == nil else { throw .exists }
    let slot = insert(
      Lease(id: id, ttl: max(ttl, config.ttlMin), remaining: 0, expiry: .max))
    let ttl = slots[slot]?.ttl ?? 0
    if isPrimary { refresh(slot, seconds: ttl, now: now, extend: 0) }
    return ttl
  }

  /// Ends a lease; returns the keys that go with it, in bytewise order.
  public mutating func revoke(_ id: LeaseID) throws(LeaseError) -> [[UInt8]] {
    guard let slot = slotOf.removeValue(forKey: id), let lease = slots[slot] else {
      throw .notFound
    }
    slots[slot] = nil
    free.append(slot)
    expiries.remove(slot)
    checkpoints.remove(slot)
    for key in lease.keys { holders[key] = nil }
    return lease.keys.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// Attaches a key, taking it from the lease that held it. Nothing happens when there is no such
  /// lease.
  public mutating func attach(_ key: RawSpan, to id: LeaseID) {
    detach(key)
    guard let slot = slotOf[id] else { return }
    let key = key.copied()
    holders[key] = Holder(slot: slot, place: slots[slot]?.keys.count ?? 0)
    slots[slot]?.keys.append(key)
  }

  /// Takes a key from the lease that holds it, if one does.
  public mutating func detach(_ key: RawSpan) {
    guard !holders.isEmpty, let holder = holders.removeValue(forKey: key.copied()),
      var keys = slots[holder.slot]?.keys
    else { return }
    slots[holder.slot]?.keys = []
    let last = keys.removeLast()
    if holder.place < keys.count {
      keys[holder.place] = last
      holders[last]?.place = holder.place
    }
    slots[holder.slot]?.keys = keys
  }

  /// The lease that holds a key; none when none does.
  public func lease(of key: RawSpan) -> LeaseID {
    guard !holders.isEmpty, let holder = holders[key.copied()] else { return .none }
    return slots[holder.slot]?.id ?? .none
  }

  @discardableResult
  private mutating func insert(_ lease: Lease) -> Int {
    let slot = free.popLast() ?? slots.count
    if slot == slots.count { slots.append(lease) } else { slots[slot] = lease }
    slotOf[lease.id] = slot
    return slot
  }

  func slot(_ id: LeaseID) -> Int? { slotOf[id] }

  /// Starts to let time pass: every lease gets its remaining time anew and `extend` on top, spread
  /// so that not too many run out at once. Called when this member leads and has applied all
  /// before its term. etcd: `Promote`.
  public mutating func promote(extend: UInt64, now: UInt64) {
    isPrimary = true
    expiries = TimeHeap()
    checkpoints = TimeHeap()
    for slot in slots.indices {
      guard let lease = slots[slot] else { continue }
      slots[slot]?.checkpointsUnderway = 0
      refresh(slot, seconds: lease.recorded, now: now, extend: extend)
    }
    spread(extend: extend, now: now)
  }

  /// Lets no lease run out any more: another member leads, or none.
  public mutating func demote() {
    isPrimary = false
    expiries = TimeHeap()
    checkpoints = TimeHeap()
    for slot in slots.indices { slots[slot]?.expiry = .max }
  }

  /// Starts a lease's time anew: it ends in so many seconds.
  mutating func refresh(_ slot: Int, seconds: Int64, now: UInt64, extend: UInt64) {
    guard let lease = slots[slot] else { return }
    let expiry = Lessor.sum(now, Lessor.sum(Lessor.nanoseconds(seconds), extend))
    slots[slot]?.expiry = expiry
    expiries.set(slot, lease.id, to: expiry)
    scheduleCheckpoint(slot, seconds: seconds, now: now)
  }

  static func nanoseconds(_ seconds: Int64) -> UInt64 {
    let (product, isBeyond) = UInt64(max(seconds, 0)).multipliedReportingOverflow(by: second)
    return isBeyond ? .max : product
  }

  static func sum(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, isBeyond) = a.addingReportingOverflow(b)
    return isBeyond ? .max : sum
  }
}
