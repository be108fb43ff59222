internal import Basics
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// How other threads reach the peer thread.
struct PeerHandle: Sendable {
  let box: Mailbox<PeerInput>
  let wakeup: Wakeup

  init() throws(Errno) {
    wakeup = try Wakeup()
    box = Mailbox(limit: .max, wakeup: wakeup)
  }
}

enum PeerInput: Sendable {
  /// For other members, in order.
  case messages([Message])
  case members(PeerMembers)
  /// What only the leader can answer.
  case forwards([Forward])
  /// The apply thread's answers to questions that came from other members.
  case completions(CompletionBatch)
  /// The addresses of a name; none when it has none.
  case resolved(String, [String])
  /// A connection whose handshake is through: the one dialled as `token`, or one from outside.
  case secured(SecuredSocket, token: UInt64?)
  /// Why the handshake of a connection that was dialled has failed.
  case unsecured(token: UInt64, String)
  /// The store of a snapshot for a member; the message that it goes with follows.
  case export(SnapshotSource, NodeID)
  /// The snapshot that was made for a member is not wanted any more.
  case snapshotUnwanted(NodeID)
  /// A snapshot has reached a member, or has not.
  case snapshotSent(NodeID, isDelivered: Bool)
  /// Something changed on the board.
  case wake
}

/// What the peer thread knows of the cluster.
struct PeerMembers: Sendable {
  var members: [Membership.Member]
  var removed: [NodeID]
  var isDowngrading = false

  func isRemoved(_ id: NodeID) -> Bool { removed.contains(id) }
}

extension PeerMembers {
  init(_ cluster: Cluster) {
    members = cluster.members
    removed = cluster.removed
    isDowngrading = cluster.downgrade?.isEnabled ?? false
  }
}
