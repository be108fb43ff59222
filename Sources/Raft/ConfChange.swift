public import Basics

/// A change of membership, of either version. etcd: raftpb.ConfChange, raftpb.ConfChangeV2.
public struct ConfChange: Equatable, Sendable {
  public enum Action: UInt8, Sendable {
    case addVoter = 0
    case remove = 1
    case update = 2
    case addLearner = 3
  }

  public enum Transition: UInt8, Sendable {
    /// Joint only when one step could not do it.
    case auto = 0
    case jointImplicit = 1
    case jointExplicit = 2
  }

  public struct Single: Equatable, Sendable {
    public var action: Action
    public var node: NodeID

    public init(_ action: Action, _ node: NodeID) {
      self.action = action
      self.node = node
    }
  }

  /// Version 1 only: the proposer's number for the request.
  public var id: UInt64
  public var transition: Transition
  public var changes: [Single]
  public var context: [UInt8]

  public init(id: UInt64, transition: Transition, changes: [Single], context: [UInt8]) {
    self.id = id
    self.transition = transition
    self.changes = changes
    self.context = context
  }

  /// The change that ends a joint configuration.
  public static let leaveJoint = ConfChange(id: 0, transition: .auto, changes: [], context: [])

  /// Whether this ends a joint configuration.
  public var leavesJoint: Bool { transition == .auto && changes.isEmpty }

  /// Whether this begins a joint configuration.
  public var entersJoint: Bool { transition != .auto || changes.count > 1 }
}

/// Why a change of membership cannot be.
public enum ConfChangeError: Error, Equatable {
  case malformed
  case alreadyJoint
  case notJoint
  case noVotersLeft
  case moreThanOneVoter
}

extension ConfState {
  /// The configuration after `change`. Thesis §4.1, §4.3; etcd: raft/confchange.
  public func applying(_ change: ConfChange) throws(ConfChangeError) -> ConfState {
    var next = self
    if change.leavesJoint {
      guard isJoint else { throw .notJoint }
      for id in learnersNext { insert(id, into: &next.learners) }
      next.learnersNext = []
      next.votersOutgoing = []
      next.autoLeave = false
      return next
    }
    guard !isJoint else { throw .alreadyJoint }
    if change.entersJoint {
      guard !voters.isEmpty else { throw .noVotersLeft }
      next.votersOutgoing = voters
      next.autoLeave = change.transition != .jointExplicit
    }
    for single in change.changes where single.node != .none { next.apply(single) }
    guard !next.voters.isEmpty else { throw .noVotersLeft }
    if !change.entersJoint {
      let gone = voters.filter { !next.voters.contains($0) }.count
      let come = next.voters.filter { !voters.contains($0) }.count
      guard gone + come <= 1 else { throw .moreThanOneVoter }
    }
    return next
  }

  private mutating func apply(_ single: ConfChange.Single) {
    let id = single.node
    switch single.action {
    case .update:
      break
    case .addVoter:
      remove(id)
      insert(id, into: &voters)
    case .remove:
      remove(id)
    case .addLearner:
      remove(id)
      if votersOutgoing.contains(id) {
        insert(id, into: &learnersNext)
      } else {
        insert(id, into: &learners)
      }
    }
  }

  private mutating func remove(_ id: NodeID) {
    voters.removeAll { $0 == id }
    learners.removeAll { $0 == id }
    learnersNext.removeAll { $0 == id }
  }
}

/// Adds `id` to an ascending list that may hold it already.
private func insert(_ id: NodeID, into list: inout [NodeID]) {
  guard !list.contains(id) else { return }
  list.insert(id, at: list.firstIndex { $0 > id } ?? list.count)
}
