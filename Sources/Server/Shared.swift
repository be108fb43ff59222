internal import Basics
internal import LMDB
internal import Membership
internal import MVCC
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import WAL

/// What the threads of one server share.
final class Shared: @unchecked Sendable {
  // Shared safely: `replica` is changed by the apply thread alone, under the write lock wherever
  // the store changes; io threads borrow its store under the read lock. All else is constant or
  // guards itself.
  var replica: Replica<LMDBBackend>
  let storeLock = ReaderWriterLock()
  let backend: LMDBBackend
  let board: Lock<Board>
  let log: Logger
  let metrics = Metrics()
  let raft = Mailbox<RaftInput>(limit: Limits.raftInputs)
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
  let startedAt = Clock.wall()

  enum Limits {
    /// Batches that may wait for the raft thread; a full box refuses at the door.
    static let raftInputs = 1 << 16
  }

  init(
    replica: consuming Replica<LMDBBackend>, backend: LMDBBackend, board: Board, log: Logger,
    loops: [LoopHandle]
  ) {
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
  var keyCount = 0
  var applied = ApplyTally()
  var compactedRows = 0
}

enum RaftInput: Sendable {
  case proposals([Proposal])
  case readIndex(loop: Int, ticket: UInt64)
  case written(WriteMark)
  case applied(LogIndex)
  case configurations([ConfigurationApplied])
  case transfer(NodeID)
  case compact(LogIndex)
}

enum WALInput: Sendable {
  case append(entries: [Entry], hardState: HardState?, mustSync: Bool, mark: WriteMark)
  case snapshot(Snapshot)
  case madeSpare(Bool)
  case stop
}

enum ApplyInput: Sendable {
  case committed([Entry])
  case queries([Query])
  case standing(Standing)
  case stored(String?)
  case defragmented(UInt64, String?)
  case snapshot(SnapshotStream)
  case usedTokens([[UInt8]])
  case stop
}

enum BackgroundInput: Sendable {
  case commit(FrozenBuffer)
  case defragment(UInt64)
  /// A released segment of the log is to be filled with zeros, from an offset on.
  case zero(String, from: Int)
  case stop
}

enum LoopInput: Sendable {
  case completions(CompletionBatch)
  case events(EventBatch)
  case readIndex(ticket: UInt64, index: LogIndex)
  /// There is more of a snapshot, or it has ended.
  case snapshot(CallID)
  case wake
  case accepted(Int32, Listener.Role)
  case secured(SecuredSocket)
  case worked(UInt64, PasswordAnswer)
  case stop
}
