import Basics
import Replica
import Testing

@testable import Services

@Suite struct Locks {
  private func lease(_ member: Harness, _ id: Int64) throws {
    _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(id))))
  }

  private func request(_ name: String, _ lease: Int64) -> [UInt8] {
    Request.make((1, .text(name)), (2, .number(lease)))
  }

  @Test func `a free lock is taken at once under name and lease`() throws {
    let member = try Harness()
    try lease(member, 0xab)
    let lock = try member.call(.lock, request("l", 0xab))
    #expect(lock.text(2) == "l/ab")
    #expect(lock.revision == 2)
    let again = try member.call(.lock, request("l", 0xab))
    #expect(again.text(2) == "l/ab")
    let unlocked = try member.call(.unlock, Request.make((1, .text("l/ab"))))
    #expect(unlocked.revision == 3)
  }

  @Test func `a lock without a lease gets one of a minute`() throws {
    let member = try Harness()
    let lock = try member.call(.lock, request("l", 0))
    #expect(lock.text(2).hasPrefix("l/"))
    let found = try member.call(.range, Request.get("l/", end: "l0")).message(2)
    let left = try member.call(
      .leaseTimeToLive, Request.make((1, .number(found.number(6)))))
    #expect(left.number(4) == 60)
  }

  @Test func `who waits gets the lock in the order of asking`() throws {
    let member = try Harness()
    for id in 1...3 as ClosedRange<Int64> { try lease(member, id) }
    _ = try member.call(.lock, request("l", 1))
    let second = member.start(.lock, request("l", 2))
    let third = member.start(.lock, request("l", 3))
    #expect(member.end(second) == nil && member.end(third) == nil)
    _ = try member.call(.unlock, Request.make((1, .text("l/1"))))
    #expect(member.end(second) == .some(.none) && member.end(third) == nil)
    #expect(Message(member.answers(second)[0]).text(2) == "l/2")
    _ = try member.call(.leaseRevoke, Request.make((1, .number(2))))
    #expect(member.end(third) == .some(.none))
  }

  @Test func `a waiter that gives up leaves no key behind`() throws {
    let member = try Harness()
    for id in 1...3 as ClosedRange<Int64> { try lease(member, id) }
    _ = try member.call(.lock, request("l", 1))
    let second = member.start(.lock, request("l", 2), timeout: 1_000_000_000)
    let third = member.start(.lock, request("l", 3))
    member.pass(2 * Harness.second)
    #expect(member.end(second) == .some(.deadlineExceeded))
    #expect(try member.call(.range, Request.get("l/2")).number(4) == 0)
    _ = try member.call(.unlock, Request.make((1, .text("l/1"))))
    #expect(member.end(third) == .some(.none))
  }

  @Test func `a waiter whose own lease ends is told so`() throws {
    let member = try Harness()
    for id in 1...2 as ClosedRange<Int64> { try lease(member, id) }
    _ = try member.call(.lock, request("l", 1))
    let second = member.start(.lock, request("l", 2))
    _ = try member.call(.leaseRevoke, Request.make((1, .number(2))))
    _ = try member.call(.unlock, Request.make((1, .text("l/1"))))
    #expect(member.end(second)??.text == "mutex: session is expired")
  }

  @Test func `a lock under a lease that is not there fails`() throws {
    let member = try Harness()
    let failure = Failure(.unknown, Failure.leaseNotFound.text)
    #expect(throws: failure) { try member.call(.lock, request("l", 9)) }
  }
}

@Suite struct Elections {
  private func prepared() throws -> Harness {
    let member = try Harness()
    for id in 1...2 as ClosedRange<Int64> {
      _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(id))))
    }
    return member
  }

  private func campaign(_ lease: Int64, _ value: String) -> [UInt8] {
    Request.make((1, .text("e")), (2, .number(lease)), (3, .text(value)))
  }

  @Test func `one leads, the next follows when it resigns`() throws {
    let member = try prepared()
    let first = try member.call(.campaign, campaign(1, "one"))
    let key = first.message(2)
    #expect(key.text(1) == "e" && key.text(2) == "e/1" && key.number(4) == 1)
    #expect(key.number(3) == 2)
    let second = member.start(.campaign, campaign(2, "two"))
    #expect(member.end(second) == nil)
    let leader = try member.call(.leader, Request.make((1, .text("e"))))
    #expect(leader.message(2).text(5) == "one")
    _ = try member.call(.resign, Request.make((1, .message(key.bytes))))
    #expect(member.end(second) == .some(.none))
    #expect(
      try member.call(.leader, Request.make((1, .text("e")))).message(2).text(5) == "two")
  }

  @Test func `only the leader proclaims`() throws {
    let member = try prepared()
    let key = try member.call(.campaign, campaign(1, "one")).message(2)
    let proclaim = Request.make((1, .message(key.bytes)), (2, .text("more")))
    #expect(try member.call(.proclaim, proclaim).revision == 3)
    _ = try member.call(.resign, Request.make((1, .message(key.bytes))))
    #expect(throws: Failure(.unknown, "election: not leader")) {
      try member.call(.proclaim, proclaim)
    }
    #expect(throws: Failure(.unknown, "election: no leader")) {
      try member.call(.leader, Request.make((1, .text("e"))))
    }
    #expect(throws: Failure(.unknown, "\"leader\" field must be provided")) {
      try member.call(.resign, [])
    }
  }

  @Test func `a campaign of its own again proclaims the new value`() throws {
    let member = try prepared()
    _ = try member.call(.campaign, campaign(1, "one"))
    let again = try member.call(.campaign, campaign(1, "two"))
    #expect(again.message(2).number(3) == 2)
    #expect(
      try member.call(.leader, Request.make((1, .text("e")))).message(2).text(5) == "two")
  }

  @Test func `an observer sees every leader and what it proclaims`() throws {
    let member = try prepared()
    let observe = member.start(.observe, Request.make((1, .text("e"))))
    #expect(member.answers(observe).isEmpty)
    _ = try member.call(.put, Request.put("f/1", "not this"))
    let key = try member.call(.campaign, campaign(1, "one")).message(2)
    let waiting = member.start(.campaign, campaign(2, "next"))
    _ = try member.call(
      .proclaim, Request.make((1, .message(key.bytes)), (2, .text("more"))))
    _ = try member.call(.resign, Request.make((1, .message(key.bytes))))
    #expect(member.end(waiting) == .some(.none))
    let values = member.answers(observe).map { Message($0).message(2).text(5) }
    #expect(values == ["one", "more", "next"])
    #expect(member.end(observe) == nil)
  }

  @Test func `an observer that does not read is sent away`() throws {
    let member = try prepared()
    let observe = member.start(.observe, Request.make((1, .text("e"))))
    let key = try member.call(.campaign, campaign(1, "one")).message(2)
    member.services.writable(observe, false)
    #expect(member.end(observe) == nil)
    _ = try member.call(
      .proclaim, Request.make((1, .message(key.bytes)), (2, .text("more"))))
    #expect(member.end(observe) == .some(Failure.tooMany.asUnknown))
    #expect(member.services.waiters.count == 0)
  }
}
