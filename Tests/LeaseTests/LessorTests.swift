import Basics
import Lease
import Testing

private let second: UInt64 = 1_000_000_000

private func lessor(
  revocations: Int = 1000, checkpoints: UInt64? = nil, isPrimary: Bool = true
) -> Lessor {
  var lessor = Lessor(
    config: LessorConfig(
      ttlMin: 2, revocationsPerSecond: revocations, checkpointInterval: checkpoints))
  if isPrimary { lessor.promote(extend: 0, now: 0) }
  return lessor
}

private func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

@Suite struct Grants {
  @Test func `a lease gets its TTL, or the least that elections allow`() throws {
    var lessor = lessor()
    #expect(try lessor.grant(LeaseID(1), ttl: 10, now: 0) == 10)
    #expect(try lessor.grant(LeaseID(2), ttl: -5, now: 0) == 2)
    #expect(try lessor.grant(LeaseID(3), ttl: Lessor.ttlMax, now: .max - 1) == Lessor.ttlMax)
    #expect(lessor.count == 3)
  }

  @Test func `none, one that exists and one too long are refused`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    #expect(throws: LeaseError.notFound) { try lessor.grant(.none, ttl: 10, now: 0) }
    #expect(throws: LeaseError.exists) { try lessor.grant(LeaseID(1), ttl: 10, now: 0) }
    #expect(throws: LeaseError.tooLarge) {
      try lessor.grant(LeaseID(2), ttl: Lessor.ttlMax + 1, now: 0)
    }
  }

  @Test func `a revoked lease gives its keys in order and can be granted anew`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    for key in ["c", "a", "b"] { lessor.attach(bytes(key).rawSpan, to: LeaseID(1)) }
    #expect(try lessor.revoke(LeaseID(1)) == ["a", "b", "c"].map(bytes))
    #expect(lessor.lease(of: bytes("a").rawSpan) == .none)
    #expect(throws: LeaseError.notFound) { try lessor.revoke(LeaseID(1)) }
    #expect(try lessor.grant(LeaseID(1), ttl: 10, now: 0) == 10)
    #expect(lessor.status(LeaseID(1), now: 0)?.keys == [])
  }

  @Test func `a key belongs to one lease at a time`() throws {
    var lessor = lessor()
    for id in 1...2 { _ = try lessor.grant(LeaseID(Int64(id)), ttl: 10, now: 0) }
    for key in ["a", "b", "c"] { lessor.attach(bytes(key).rawSpan, to: LeaseID(1)) }
    lessor.attach(bytes("a").rawSpan, to: LeaseID(2))
    lessor.detach(bytes("b").rawSpan)
    lessor.detach(bytes("none").rawSpan)
    lessor.attach(bytes("d").rawSpan, to: LeaseID(9))
    #expect(try lessor.revoke(LeaseID(1)) == [bytes("c")])
    #expect(lessor.lease(of: bytes("a").rawSpan) == LeaseID(2))
    #expect(lessor.lease(of: bytes("d").rawSpan) == .none)
  }

  @Test func `attaching and detaching at random agrees with a plain model`() throws {
    var lessor = lessor()
    var model: [UInt8: Int64] = [:]
    var random = Random(seed: 7)
    for id in 1...4 { _ = try lessor.grant(LeaseID(Int64(id)), ttl: 10, now: 0) }
    for _ in 0..<5000 {
      let key = UInt8(random.next(below: 20))
      if random.chance(1, in: 3) {
        lessor.detach([key].rawSpan)
        model[key] = nil
      } else {
        let id = Int64(1 + random.next(below: 4))
        lessor.attach([key].rawSpan, to: LeaseID(id))
        model[key] = id
      }
    }
    for id in 1...4 as ClosedRange<Int64> {
      let expected = (0..<20 as Range<UInt8>).filter { model[$0] == id }.map { [$0] }
      #expect(try lessor.revoke(LeaseID(id)) == expected)
    }
  }
}

@Suite struct Expiry {
  @Test func `a lease runs out after its TTL and never before`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    #expect(lessor.expired(now: 10 * second - 1, limit: 10).isEmpty)
    #expect(lessor.expired(now: 10 * second, limit: 10) == [LeaseID(1)])
    #expect(lessor.status(LeaseID(1), now: 12 * second)?.remaining == -2)
  }

  @Test func `one that is still there is given again after a while`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    _ = lessor.expired(now: 10 * second, limit: 10)
    #expect(lessor.expired(now: 11 * second, limit: 10).isEmpty)
    #expect(lessor.expired(now: 13 * second, limit: 10) == [LeaseID(1)])
    _ = try lessor.revoke(LeaseID(1))
    #expect(lessor.expired(now: 60 * second, limit: 10).isEmpty)
  }

  @Test func `a renewed lease lives on, and one that ran out cannot be renewed`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    #expect(try lessor.renew(LeaseID(1), now: 8 * second).ttl == 10)
    #expect(lessor.expired(now: 17 * second, limit: 10).isEmpty)
    #expect(throws: LeaseError.notFound) { try lessor.renew(LeaseID(1), now: 18 * second) }
    #expect(throws: LeaseError.notFound) { try lessor.renew(LeaseID(2), now: 0) }
    #expect(lessor.expired(now: 18 * second, limit: 10) == [LeaseID(1)])
  }

  @Test func `the limit holds and the longest expired come first`() throws {
    var lessor = lessor()
    for id in 1...5 as ClosedRange<Int64> {
      _ = try lessor.grant(LeaseID(id), ttl: 10 - id, now: 0)
    }
    #expect(lessor.expired(now: 20 * second, limit: 2) == [LeaseID(5), LeaseID(4)])
    #expect(lessor.expired(now: 20 * second, limit: 9).count == 3)
    #expect(lessor.leases.map(\.rawValue) == [5, 4, 3, 2, 1])
  }

  @Test func `only the primary lets leases run out or renews them`() throws {
    var lessor = lessor(isPrimary: false)
    lessor.restore(LeaseID(1), ttl: 10, remaining: 0)
    #expect(lessor.expired(now: .max, limit: 10).isEmpty)
    #expect(throws: LeaseError.notPrimary) { try lessor.renew(LeaseID(1), now: 0) }
    #expect(lessor.status(LeaseID(1), now: 99 * second)?.remaining == 10)
  }

  @Test func `a new primary gives every lease its time anew and an election more`() throws {
    var lessor = lessor()
    _ = try lessor.grant(LeaseID(1), ttl: 10, now: 0)
    lessor.demote()
    lessor.promote(extend: second, now: 100 * second)
    #expect(lessor.expired(now: 111 * second - 1, limit: 10).isEmpty)
    #expect(lessor.expired(now: 111 * second, limit: 10) == [LeaseID(1)])
  }

  @Test func `what is on record of the remaining time counts at a promotion`() throws {
    var lessor = lessor(isPrimary: false)
    lessor.restore(LeaseID(1), ttl: 100, remaining: 0)
    #expect(lessor.checkpoint(LeaseID(1), remaining: 30, now: 0) == 100)
    #expect(lessor.checkpoint(LeaseID(2), remaining: 30, now: 0) == nil)
    lessor.promote(extend: 0, now: 0)
    #expect(lessor.status(LeaseID(1), now: 0)?.remaining == 30)
    let renewed = try lessor.renew(LeaseID(1), now: 0)
    #expect(renewed.ttl == 100 && renewed.resetsCheckpoint)
    #expect(lessor.status(LeaseID(1), now: 0)?.remaining == 100)
    // Until that is in the log, the next promotion counts from what is on record.
    #expect(try lessor.renew(LeaseID(1), now: 0).resetsCheckpoint)
    #expect(lessor.checkpoint(LeaseID(1), remaining: 0, now: 0) == 100)
    #expect(try !lessor.renew(LeaseID(1), now: 0).resetsCheckpoint)
  }

  @Test func `a checkpoint on its way into the log is taken back by a renewal too`() throws {
    var lessor = lessor(checkpoints: 60 * second)
    _ = try lessor.grant(LeaseID(1), ttl: 100, now: 0)
    let due = lessor.dueCheckpoints(now: 61 * second, limit: 9)
    try #require(due.count == 1)
    #expect(try lessor.renew(LeaseID(1), now: 61 * second).resetsCheckpoint)
    _ = lessor.checkpoint(LeaseID(1), remaining: due[0].remaining, now: 61 * second)
    #expect(try lessor.renew(LeaseID(1), now: 61 * second).resetsCheckpoint)
    _ = lessor.checkpoint(LeaseID(1), remaining: 0, now: 61 * second)
    #expect(try !lessor.renew(LeaseID(1), now: 61 * second).resetsCheckpoint)
  }

  @Test func `long leases are put on record at intervals, rounded up`() throws {
    var lessor = lessor(checkpoints: 60 * second)
    _ = try lessor.grant(LeaseID(1), ttl: 100, now: 0)
    _ = try lessor.grant(LeaseID(2), ttl: 50, now: 0)
    #expect(lessor.dueCheckpoints(now: 59 * second, limit: 9).isEmpty)
    let due = lessor.dueCheckpoints(now: 60 * second + 1, limit: 9)
    #expect(due == [RemainingTime(lease: LeaseID(1), remaining: 40)])
  }

  @Test func `after a promotion no more run out in a second than can be revoked`() throws {
    var lessor = lessor(revocations: 100, isPrimary: false)
    for id in 1...1000 as ClosedRange<Int64> {
      lessor.restore(LeaseID(id), ttl: 10, remaining: 0)
    }
    lessor.promote(extend: 0, now: 0)
    var most = 0
    var all = 0
    for tick in 10...40 as ClosedRange<UInt64> {
      let found = lessor.expired(now: tick * second, limit: 10_000)
      let fresh = found.filter { lessor.exists($0) }
      for lease in fresh { _ = try lessor.revoke(lease) }
      if tick > 10 { most = max(most, fresh.count) }
      all += fresh.count
    }
    #expect(all == 1000)
    #expect(most <= 100)
  }
}
