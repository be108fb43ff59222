import Basics
import MVCC
import Raft
import Replica
import Services
import Testing

/// Messages from outside may be anything: the member answers or refuses, and goes on.
@Suite struct Damage {
  private static let extremes: [Int64] = [0, 1, -1, 2, .max, .min, .max - 1, 1 << 40]

  /// A message of random fields, with numbers from the ends of their ranges and nested messages.
  private func message(_ random: inout Random, depth: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for _ in 0..<random.next(below: 6) {
      let field = 1 + random.next(below: 14)
      switch random.next(below: 4) {
      case 0, 1:
        let number = Self.extremes[random.next(below: Self.extremes.count)]
        bytes += Request.make((field, .number(number)))
      case 2:
        let keys = ["", "a", "b", "\0", "e/1", "http://h:1", "3.4"]
        bytes += Request.make((field, .text(keys[random.next(below: keys.count)])))
      default:
        guard depth < 4 else { continue }
        bytes += Request.make((field, .message(message(&random, depth: depth + 1))))
      }
    }
    if depth == 0, random.chance(1, in: 8), !bytes.isEmpty {
      bytes[random.next(below: bytes.count)] = UInt8(truncatingIfNeeded: random.next())
    }
    return bytes
  }

  /// The others can carry it out: to go on would be to hold other data than they.
  @Test func `an entry that needs a row that is lost is not passed over`() throws {
    let member = try Harness()
    let put = try member.call(.put, Request.put("a", "1"))
    member.save()
    var damage = WriteBatch()
    damage.remove(.key, RevisionKey.bytes(Revision(main: put.revision, sub: 0)).rawSpan)
    try member.backend.commit(damage)
    let before = member.replica.appliedIndex
    let ignoreValue = Request.make((1, .text("a")), (5, .number(1)))
    member.commit(.normal, Proposal(.put, ignoreValue.rawSpan, id: 99).data)
    #expect(member.outcome.broken?.contains("is in the index and not in the store") == true)
    #expect(member.replica.appliedIndex == before)
    #expect(member.replica.store.consistentIndex == before)
  }

  @Test(arguments: [1, 2, 3, 4] as [UInt64])
  func `no message stops the member`(seed: UInt64) throws {
    let member = try Harness()
    var random = Random(seed: seed)
    let methods = Method.allCases
    for round in 0..<800 {
      let method = methods[random.next(below: methods.count)]
      let call = member.open(method, timeout: 1_000_000)
      member.send(call, message(&random, depth: 0))
      if random.chance(1, in: 4) { member.send(call, message(&random, depth: 0)) }
      if random.chance(1, in: 2) { member.services.halfClosed(call, out: &member.outbox) }
      if round % 50 == 0 { member.pass(2_000_000) }
      if round % 200 == 0 {
        _ = try? member.call(
          .alarm, Request.make((1, .number(2)), (2, .number(0)), (3, .number(2))))
      }
    }
    for alarm in member.replica.alarms.active {
      let clear = Request.make(
        (1, .number(2)), (2, .number(Int64(bitPattern: alarm.member.rawValue))),
        (3, .number(alarm.kind.rawValue)))
      _ = try member.call(.alarm, clear)
    }
    let put = try member.call(.put, Request.put("after", "1"))
    let range = try member.call(.range, Request.get("after"))
    #expect(put.revision == range.message(2).number(3))
  }
}
