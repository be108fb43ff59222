import Basics
import Testing

@testable import Raft

@Suite struct `A quorum` {
  private func ids(_ raw: [UInt64]) -> [NodeID] { raw.map(NodeID.init) }

  private func joint(_ voters: [UInt64], _ outgoing: [UInt64]) -> ConfState {
    ConfState(
      voters: ids(voters), learners: [], votersOutgoing: ids(outgoing), learnersNext: [],
      autoLeave: false)
  }

  @Test(
    arguments: [
      ([1], [5], 5), ([1, 2], [5, 3], 3), ([1, 2, 3], [5, 3, 4], 4), ([1, 2, 3], [5, 0, 0], 0),
      ([1, 2, 3, 4], [5, 4, 3, 2], 3), ([1, 2, 3, 4, 5], [9, 9, 1, 2, 3], 3),
    ] as [([UInt64], [UInt64], UInt64)])
  func `has reached what its median has`(voters: [UInt64], match: [UInt64], expected: UInt64) {
    let value = joint(voters, []).quorumValue { match[Int($0.rawValue) - 1] }
    #expect(value == expected)
  }

  @Test func `needs both halves when joint`() {
    let both = joint([1, 2, 3], [3, 4, 5])
    let match: [UInt64] = [9, 9, 1, 2, 7]
    #expect(both.quorumValue { match[Int($0.rawValue) - 1] } == 2)
    #expect(both.result { $0.rawValue <= 3 ? true : nil } == .pending)
    #expect(both.result { $0.rawValue <= 3 } == .lost)
    #expect(both.result { $0.rawValue != 1 && $0.rawValue != 5 } == .won)
  }

  @Test func `agrees with sorting, for all small configurations`() {
    var random = Random(seed: 7)
    for _ in 0..<500 {
      let count = 1 + random.next(below: 7)
      let match = (0..<count).map { _ in UInt64(random.next(below: 6)) }
      let value = joint((1...UInt64(count)).map { $0 }, [])
        .quorumValue { match[Int($0.rawValue) - 1] }
      #expect(value == match.sorted()[(count - 1) / 2])
    }
  }

  @Test func `is won, lost or open`() {
    let three = joint([1, 2, 3], [])
    #expect(three.result { $0 == NodeID(1) ? true : nil } == .pending)
    #expect(three.result { $0.rawValue < 3 ? true : nil } == .won)
    #expect(three.result { $0.rawValue < 3 ? false : nil } == .lost)
  }
}

@Suite struct `A membership change` {
  private func change(
    _ singles: [ConfChange.Single], _ transition: ConfChange.Transition = .auto
  ) -> ConfChange {
    ConfChange(id: 0, transition: transition, changes: singles, context: [])
  }

  @Test func `adds and removes one voter in one step`() throws {
    let start = ConfState(voters: [NodeID(1), NodeID(2)])
    let more = try start.applying(change([.init(.addVoter, NodeID(3))]))
    #expect(more.voters == [1, 2, 3].map(NodeID.init) && !more.isJoint)
    let fewer = try more.applying(change([.init(.remove, NodeID(1))]))
    #expect(fewer.voters == [2, 3].map(NodeID.init))
  }

  @Test func `of several goes through a joint configuration`() throws {
    let start = ConfState(voters: [1, 2, 3].map(NodeID.init))
    let both = try start.applying(
      change([.init(.addVoter, NodeID(4)), .init(.addLearner, NodeID(1))]))
    #expect(both.votersOutgoing == start.voters && both.autoLeave)
    #expect(both.voters == [2, 3, 4].map(NodeID.init))
    #expect(both.learnersNext == [NodeID(1)] && both.learners.isEmpty)
    let end = try both.applying(.leaveJoint)
    #expect(end.learners == [NodeID(1)] && !end.isJoint && !end.autoLeave)
  }

  @Test func `that cannot be is refused`() throws {
    let one = ConfState(voters: [NodeID(1)])
    #expect(throws: ConfChangeError.noVotersLeft) {
      try one.applying(change([.init(.remove, NodeID(1))]))
    }
    #expect(throws: ConfChangeError.notJoint) { try one.applying(.leaveJoint) }
    let both = try one.applying(change([.init(.addVoter, NodeID(2))], .jointExplicit))
    #expect(!both.autoLeave)
    #expect(throws: ConfChangeError.alreadyJoint) {
      try both.applying(change([.init(.addVoter, NodeID(3))]))
    }
  }

  @Test func `of a node with no ID changes nothing`() throws {
    // etcd puts 0 there when it has refused the change.
    let one = ConfState(voters: [NodeID(1)])
    #expect(try one.applying(change([.init(.remove, .none)])) == one)
  }

  @Test func `promotes a learner`() throws {
    let start = try ConfState(voters: [NodeID(1)])
      .applying(change([.init(.addLearner, NodeID(2))]))
    #expect(start.learners == [NodeID(2)])
    let end = try start.applying(change([.init(.addVoter, NodeID(2))]))
    #expect(end.learners.isEmpty && end.voters == [NodeID(1), NodeID(2)])
  }

  @Test func `has the bytes that raftpb gives it`() throws {
    let one = ConfChange(
      id: 5, transition: .auto, changes: [.init(.addLearner, NodeID(300))], context: [1, 2])
    let bytes: [UInt8] = [8, 5, 16, 3, 24, 0xac, 2, 34, 2, 1, 2]
    #expect(one.encoded(as: .confChange) == bytes)
    #expect(try ConfChange(kind: .confChange, data: bytes) == one)
    let two = ConfChange(
      id: 0, transition: .jointExplicit,
      changes: [.init(.addVoter, NodeID(1)), .init(.remove, NodeID(2))], context: [])
    let data = two.encoded(as: .confChangeV2)
    #expect(data == [8, 2, 18, 4, 8, 0, 16, 1, 18, 4, 8, 1, 16, 2])
    #expect(try ConfChange(kind: .confChangeV2, data: data) == two)
    #expect(try ConfChange(kind: .confChangeV2, data: []) == .leaveJoint)
  }

  @Test(arguments: [[8], [34, 5, 1], [16, 9], [11], [0xff, 0xff]] as [[UInt8]])
  func `of broken bytes is refused`(data: [UInt8]) {
    #expect(throws: ConfChangeError.malformed) {
      try ConfChange(kind: .confChange, data: data)
    }
  }
}
