import Testing

@testable import Services

@Suite struct AutoCompactorTests {
  static let minute: UInt64 = 60_000_000_000

  /// Ticks once a second for `minutes` while the revision grows by one a second; what was
  /// compacted, with its minute.
  func run(
    _ mode: AutoCompactor.Mode, minutes: UInt64, isLeader: (UInt64) -> Bool = { _ in true },
    works: Bool = true
  ) -> [(minute: UInt64, revision: Int64)] {
    var compactor = AutoCompactor(mode, now: 0)
    var found: [(minute: UInt64, revision: Int64)] = []
    var compacted: Int64 = -1
    for second in 0...(minutes * 60) {
      let now = second * 1_000_000_000
      let revision = compactor.tick(
        now: now, revision: Int64(second) + 1, compacted: compacted,
        isLeader: isLeader(second / 60))
      guard let revision else { continue }
      found.append((second / 60, revision))
      if works { compacted = revision }
    }
    return found
  }

  @Test func `ten minutes are kept, after ten minutes, every ten minutes`() {
    let found = run(.periodic(nanoseconds: 10 * Self.minute), minutes: 31)
    #expect(found.map(\.minute) == [10, 20, 30])
    for (minute, revision) in found {
      let age: Int64 = Int64(minute) * 60 + 1 - revision
      #expect(age >= 600 && age <= 660, "\(minute): \(revision)")
    }
  }

  @Test func `a day is kept, and compacted hourly after it`() {
    let found = run(.periodic(nanoseconds: 24 * 60 * Self.minute), minutes: 27 * 60)
    let expected: [UInt64] = [1440, 1500, 1560, 1620]
    #expect(found.map(\.minute) == expected)
    for (minute, revision) in found {
      let age: Int64 = Int64(minute) * 60 + 1 - revision
      #expect(age >= 86_400 && age <= 86_760, "\(minute): \(revision)")
    }
  }

  @Test func `what did not work is tried again at the next look`() {
    let found = run(.periodic(nanoseconds: 10 * Self.minute), minutes: 12, works: false)
    #expect(found.map(\.minute) == [10, 11, 12])
  }

  @Test func `a new leader knows the past`() {
    let found = run(.periodic(nanoseconds: 10 * Self.minute), minutes: 25) { $0 >= 15 }
    #expect(found.map(\.minute) == [15, 25])
    let first = found.first?.revision ?? 0
    #expect(first > 0 && first <= 301)
  }

  @Test func `so many revisions are kept, looked at every five minutes`() {
    let found = run(.revision(keep: 400), minutes: 16)
    #expect(found.map(\.minute) == [10, 15])
    #expect(found.map(\.revision) == [201, 501])
  }

  @Test func `nothing new, nothing compacted`() {
    var compactor = AutoCompactor(.revision(keep: 5), now: 0)
    #expect(
      compactor.tick(now: 5 * Self.minute, revision: 9, compacted: -1, isLeader: true) == 4)
    #expect(
      compactor.tick(now: 10 * Self.minute, revision: 9, compacted: 4, isLeader: true) == nil)
  }
}
