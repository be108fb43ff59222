import Platform
import Replica
import Testing

@testable import Server

@Suite struct HeldProposalsTests {
  @Test func `they leave in order and make room, however many came and went`() {
    var held = HeldProposals()
    var next: UInt64 = 0
    var first: UInt64 = 0
    for _ in 0..<20_000 {
      let isTaken = held.append(Proposal(id: next, data: [1, 2, 3]), deadline: .max)
      #expect(isTaken)
      next += 1
      if next > 1500 {
        #expect(held.first?.proposal.id == first && held.first?.proposal.data == [1, 2, 3])
        held.removeFirst()
        first += 1
      }
    }
    while !held.isEmpty {
      #expect(held.first?.proposal.id == first)
      held.removeFirst()
      first += 1
    }
    #expect(first == next)
  }

  @Test func `there is no room beyond their number and their bytes`() {
    var held = HeldProposals()
    let mebibyte = [UInt8](repeating: 0, count: 1 << 20)
    var taken = (0..<65 as Range<UInt64>).map {
      held.append(Proposal(id: $0, data: mebibyte), deadline: .max)
    }
    #expect(taken == Array(repeating: true, count: 64) + [false])
    held.removeFirst()
    taken = [held.append(Proposal(id: 65, data: mebibyte), deadline: .max)]
    #expect(taken == [true])
  }
}
