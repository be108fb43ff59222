import Basics
import Testing

@testable import Lease

@Suite struct TimeHeapTests {
  @Test(arguments: 0..<20 as Range<UInt64>)
  func `it agrees with a list that is sorted each time`(seed: UInt64) {
    var random = Random(seed: seed)
    var heap = TimeHeap()
    var model: [Int: UInt64] = [:]
    for _ in 0..<2000 {
      let slot = Int.random(in: 0..<40, using: &random)
      if Bool.random(using: &random) || model.count < 5 {
        let time = UInt64.random(in: 0..<100, using: &random)
        heap.set(slot, LeaseID(Int64(slot)), to: time)
        model[slot] = time
      } else {
        heap.remove(slot)
        model[slot] = nil
      }
      let least = model.min { ($0.value, $0.key) < ($1.value, $1.key) }
      #expect(heap.count == model.count)
      #expect(heap.first?.slot == least?.key && heap.first?.time == least?.value)
    }
  }

  @Test func `a lease that is renewed or revoked leaves no times behind`() throws {
    let second: UInt64 = 1_000_000_000
    var lessor = Lessor(
      config: LessorConfig(ttlMin: 2, revocationsPerSecond: 1000, checkpointInterval: second))
    lessor.promote(extend: 0, now: 0)
    _ = try lessor.grant(LeaseID(1), ttl: Lessor.ttlMax, now: 0)
    for now in 0..<1000 as Range<UInt64> { _ = try lessor.renew(LeaseID(1), now: now) }
    #expect(lessor.expiries.count == 1 && lessor.checkpoints.count == 1)
    _ = try lessor.revoke(LeaseID(1))
    #expect(lessor.expiries.count == 0 && lessor.checkpoints.count == 0)
  }
}
