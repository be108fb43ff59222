import Basics
import Replica
import Testing

@Suite struct RequestIDTests {
  static let member = NodeID(0x8211_f1d0_f64f_3269)
  /// 2026-11-21.
  static let start: UInt64 = 1_795_219_200_123

  static func made(_ count: Int, at milliseconds: UInt64, loop: Int = 3) -> Set<UInt64> {
    var ids = RequestIDs(member: member, startMilliseconds: milliseconds, loop: loop)
    return Set((0..<count).map { _ in ids.next() })
  }

  @Test func `a restart in the next millisecond makes other IDs`() {
    let before = Self.made(256, at: Self.start)
    #expect(before.count == 256)
    #expect(before.isDisjoint(with: Self.made(256, at: Self.start + 1)))
    // A process that lived for a second, making all it may.
    let long = Self.made(256_000, at: Self.start)
    #expect(long.isDisjoint(with: Self.made(9, at: Self.start + 1000)))
  }

  @Test(arguments: [0, 3, RequestIDs.loopsMax])
  func `an ID leads back to the loop and to no other member`(loop: Int) {
    for id in Self.made(1000, at: .max, loop: loop).union(Self.made(1000, at: 0, loop: loop)) {
      #expect(RequestIDs.loop(of: id, member: Self.member) == loop)
      #expect(RequestIDs.loop(of: id, member: NodeID(0x3268)) == nil)
      #expect(id != 0 && id >> 48 == 0x3269)
    }
  }

  @Test func `the loops' IDs and the distant ones never meet`() {
    var near = RequestIDs(
      member: Self.member, startMilliseconds: Self.start, loop: RequestIDs.loopsMax)
    var far = near.distant()
    var seen: Set<UInt64> = []
    for _ in 0..<100_000 {
      #expect(seen.insert(near.next()).inserted)
      #expect(seen.insert(far.next()).inserted)
    }
    #expect(seen.isDisjoint(with: Self.made(1000, at: Self.start, loop: 0)))
  }
}
