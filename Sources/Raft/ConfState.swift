public import Basics

/// Who takes part, all lists ascending. etcd: raftpb.ConfState; thesis §4.3 for joint ones.
public struct ConfState: Equatable, Sendable {
  public var voters: [NodeID]
  public var learners: [NodeID]
  /// The old voters while the configuration is joint; else empty.
  public var votersOutgoing: [NodeID]
  /// Voters on their way out that become learners when the joint configuration is left.
  public var learnersNext: [NodeID]
  public var autoLeave: Bool

  public init(
    voters: [NodeID], learners: [NodeID], votersOutgoing: [NodeID], learnersNext: [NodeID],
    autoLeave: Bool
  ) {
    self.voters = voters.sorted()
    self.learners = learners.sorted()
    self.votersOutgoing = votersOutgoing.sorted()
    self.learnersNext = learnersNext.sorted()
    self.autoLeave = autoLeave
  }

  public init(voters: [NodeID]) {
    self.init(voters: voters, learners: [], votersOutgoing: [], learnersNext: [], autoLeave: false)
  }

  public var isJoint: Bool { !votersOutgoing.isEmpty }

  /// Whether `id` votes in either half.
  public func isVoter(_ id: NodeID) -> Bool {
    voters.contains(id) || votersOutgoing.contains(id)
  }

  /// Whether `id` takes part in any role.
  public func contains(_ id: NodeID) -> Bool { isVoter(id) || learners.contains(id) }

  /// Everyone, ascending, each once.
  public var members: [NodeID] {
    var all = voters
    for list in [votersOutgoing, learners] {
      for id in list where !all.contains(id) { all.append(id) }
    }
    return all.sorted()
  }

  /// Everyone who votes in either half, ascending, each once.
  public var electorate: [NodeID] {
    (voters + votersOutgoing.filter { !voters.contains($0) }).sorted()
  }
}

/// The outcome of an election so far.
enum VoteResult: Equatable {
  case pending
  case won
  case lost
}

/// Majorities, and majorities of both halves when joint. etcd: raft/quorum.
extension ConfState {
  /// The largest value that a quorum of both halves has reached. Allocates nothing; the lists
  /// are short, so counting beats sorting.
  func quorumValue(_ value: (NodeID) -> UInt64) -> UInt64 {
    let incoming = ConfState.majorityValue(voters, value)
    return isJoint ? min(incoming, ConfState.majorityValue(votersOutgoing, value)) : incoming
  }

  /// The state of an election; `vote` is nil while unknown.
  func result(_ vote: (NodeID) -> Bool?) -> VoteResult {
    let incoming = ConfState.majorityResult(voters, vote)
    guard isJoint else { return incoming }
    let outgoing = ConfState.majorityResult(votersOutgoing, vote)
    if incoming == outgoing { return incoming }
    return incoming == .lost || outgoing == .lost ? .lost : .pending
  }

  private static func majorityValue(_ ids: [NodeID], _ value: (NodeID) -> UInt64) -> UInt64 {
    var best: UInt64 = 0
    for id in ids {
      let candidate = value(id)
      guard candidate > best else { continue }
      var count = 0
      for other in ids where value(other) >= candidate { count += 1 }
      if count > ids.count / 2 { best = candidate }
    }
    return best
  }

  private static func majorityResult(_ ids: [NodeID], _ vote: (NodeID) -> Bool?) -> VoteResult {
    var granted = 0
    var unknown = 0
    for id in ids {
      switch vote(id) {
      case true?: granted += 1
      case false?: break
      case nil: unknown += 1
      }
    }
    let needed = ids.count / 2 + 1
    if granted >= needed { return .won }
    return granted + unknown >= needed ? .pending : .lost
  }
}
