internal import Basics
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import WAL

/// What the threads of one server share.
final class Shared: @unchecked Sendable {
  // Shared safely: `replica` is changed by the apply thread alone, or while that waits for it by
  // the store's, under the write lock wherever the store changes; io threads borrow its store
  // under the read lock. All else is constant or guards itself.
  var replica: Replica<LMDBBackend>
  let storeLock = ReaderWriterLock()
  let backend: LMDBBackend
  let board: Lock<Board>
  let log: Logger
  let metrics = Metrics()
  let raft = Mailbox<RaftInput>(limit: .max)
  let wal = Mailbox<WALInput>(limit: .max)
  let apply = Mailbox<ApplyInput>(limit: .max)
  let background = Mailbox<BackgroundInput>(limit: .max)
  /// One for each password thread: they take half of the processors.
  let passwords = (0..<max(1, Process.processorCount / 2)).map { _ in
    Mailbox<PasswordInput>(limit: PasswordThread.Limits.waitingMax)
  }
  let loops: [LoopHandle]
  /// How many snapshots are under way.
  let snapshots = Lock(0)
  let pace = Lock(Pace())
  let peers: PeerHandle
  /// The number under which the peer thread gets its completions: the one after the io loops'.
  var peerLoop: Int { loops.count }
  let startedAt = Clock.wall()
  /// How a replica is made of what is stored.
  let opening: ReplicaOpening
  let snapshotFiles: SnapshotFiles

  /// Ends the process of a member that its cluster has removed.
  func endRemoved() -> Never {
    let member = board.withLock { $0.status.member }
    log.end(
      "the member has been permanently removed from the cluster and stops; its data directory "
        + "must be removed before it can join again",
      ("local-member-id", Hex.text(member.rawValue)))
  }

  init(
    replica: consuming Replica<LMDBBackend>, backend: LMDBBackend, board: Board, log: Logger,
    loops: [LoopHandle], peers: PeerHandle, opening: ReplicaOpening,
    snapshotFiles: SnapshotFiles
  ) {
    self.opening = opening
    self.snapshotFiles = snapshotFiles
    self.peers = peers
    self.replica = replica
    self.backend = backend
    self.board = Lock(board)
    self.log = log
    self.loops = loops
  }
}

/// How other threads reach an io loop.
struct LoopHandle: Sendable {
  let box: Mailbox<LoopInput>
  let wakeup: Wakeup
  /// Whether the loop has said good-bye to its clients.
  let stopped = Lock(false)
  /// What the loop has counted; brought up to date on every tick.
  let report = Lock(LoopReport())

  init() throws(Errno) {
    wakeup = try Wakeup()
    box = Mailbox(limit: .max, wakeup: wakeup)
  }
}

/// What every thread may want to know; brought up to date after each batch.
struct Board: Sendable {
  var status: MemberStatus
  var role = Role.follower
  var lastIndex = LogIndex.zero
  var isReady = false
  var clusterVersion: String?
  var leaderChanges = 0
  /// Members that messages get to.
  var reachable: [NodeID] = []
  var keyCount = 0
  var applied = ApplyTally()
  var compactedRows = 0
  var compactionHashes: [CompactionHash] = []
  /// The server version of each other member that has told it.
  var peerVersions: [NodeID: String] = [:]
}

enum RaftInput: Sendable {
  case proposals([Proposal])
  /// For the apply thread, behind what is committed now.
  case questions([Query])
  case readIndex(loop: Int, ticket: UInt64)
  case written(WriteMark)
  case applied(LogIndex)
  case configurations([ConfigurationApplied])
  case transfer(NodeID)
  case compact(LogIndex)
  /// What other members sent.
  case messages([Message])
  /// Messages to these members were lost.
  case unreachable([NodeID])
  /// A snapshot of the state, for a member that asked for one.
  case snapshot(Snapshot, to: NodeID)
  case snapshotSent(NodeID, isDelivered: Bool)
}

enum WALInput: Sendable {
  /// `snapshot` came from the leader and takes the place of the log so far.
  case append(
    snapshot: Snapshot?, entries: [Entry], hardState: HardState?, mustSync: Bool, mark: WriteMark)
  case snapshot(Snapshot)
  case madeSpare(Bool)
  case stop
}

enum ApplyInput: Sendable {
  case committed([Entry])
  case queries([Query])
  case standing(Standing)
  /// A member has fallen behind the log.
  case snapshotWanted(NodeID)
  /// A snapshot takes the place of the state.
  case restore(Snapshot)
  /// `unanswered`: what callers of the store before wait for.
  case restored(unanswered: [UInt64])
  case stored(String?)
  case defragmented(UInt64, String?)
  case snapshot(SnapshotStream)
  case usedTokens([[UInt8]])
  case stop
}

enum BackgroundInput: Sendable {
  case commit(FrozenBuffer)
  case defragment(UInt64)
  /// A defragmentation has copied the rows, or has failed.
  case copied(Defragmentation, String?)
  /// A released segment of the log is to be filled with zeros, from an offset on.
  case zero(String, from: Int)
  /// The store holds exactly what the snapshot stands for.
  case export(Snapshot, [NodeID])
  case restore(Snapshot)
  /// So much of the log in memory is no longer needed.
  case freed(bytes: Int)
  case stop
}

enum LoopInput: Sendable {
  case completions(CompletionBatch)
  case events(EventBatch)
  case readIndex(ticket: UInt64, index: LogIndex)
  /// There is more of a snapshot, or it has ended.
  case snapshot(CallID)
  /// A snapshot took the place of the store.
  case restored(revision: Int64, compactRevision: Int64)
  case wake
  case accepted(Int32, Listener.Role)
  case secured(SecuredSocket, Listener.Role)
  case worked(UInt64, PasswordAnswer)
  case stop
}
