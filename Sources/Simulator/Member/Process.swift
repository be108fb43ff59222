internal import Basics
internal import MVCC
internal import Membership
internal import Raft
internal import Replica
internal import Services
internal import WAL

enum RaftInput {
  case message(Message)
  case proposals([Proposal])
  case questions([Query])
  case readIndex(ticket: UInt64)
  case written(WriteMark)
  case applied(LogIndex)
  case configurations([ConfigurationApplied])
  case transfer(NodeID)
  case compact(LogIndex)
  case snapshot(Snapshot, store: [UInt8], for: [NodeID])
  case reported(NodeID, isDelivered: Bool)
  case unreachable(NodeID)
}

struct WALBatch {
  var entries: [Entry]
  var hardState: HardState?
  var mustSync: Bool
  var mark: WriteMark
  var snapshot: Snapshot?
  var then: [Message]
}

enum WALInput {
  case append(WALBatch)
  case snapshot(Snapshot)
}

enum ApplyInput {
  case committed([Entry], commit: LogIndex)
  case queries([Query])
  case standing(Standing)
  case stored
  case install(Snapshot)
  case snapshotWanted([NodeID])
}

enum LoopInput {
  case completions(CompletionBatch)
  case events(EventBatch)
  case readIndex(ticket: UInt64, index: LogIndex)
  case replaced(revision: Int64, compactRevision: Int64)
  case wake
  case client(ClientInput)
}

/// What a client does to a call of its member.
enum ClientInput {
  case open(CallID, Method, timeout: UInt64?, needsLeader: Bool)
  case message(CallID, [UInt8])
  case halfClose(CallID)
  case cancel(CallID)
  case writable(CallID, Bool)
}

/// What a client hears.
enum ClientEvent {
  case message(CallID, [UInt8])
  case finished(CallID, Failure?)
  /// The connection broke, or there was none.
  case lost(CallID, wasSent: Bool)
}

/// One start of a member: all that is in memory. The shell of Sources/Server on one thread: the
/// same mailboxes between the same owners, with turns of virtual time in place of threads.
final class Process {
  unowned let world: Simulation
  unowned let host: Host
  let run: Int

  // Raft.
  var core: Core
  var output = Output()
  var raftInbox: [RaftInput] = []
  /// The newest read request that the core has: older ones are not waited for.
  var read: (context: UInt64, ticket: UInt64) = (0, 0)
  var nextContext: UInt64
  var nextTick: UInt64
  /// Proposals that wait for a leader, and until when.
  var waiting: [(proposal: Proposal, deadline: UInt64)] = []
  var questions: [(index: LogIndex, queries: [Query])] = []

  // Log.
  var wal: Log<FaultyDisk>
  let snapshots: SnapshotStore<FaultyDisk>
  var walInbox: [WALInput] = []
  var writing: [WALBatch] = []
  var isWriting = false

  // Apply.
  var replica: Replica<MemoryBackend>
  var outcome = Outcome(loops: peerLoop + 1)
  var applyInbox: [ApplyInput] = []
  var apply: ApplyState

  // Store.
  var committing: FrozenBuffer?

  // Loop.
  var services: Services<MemoryBackend>
  var reader: MemoryBackend.Reader
  var outbox = Outbox()
  var loopInbox: [LoopInput] = []
  var status: MemberStatus
  var nextLoopTick: UInt64 = 0
  /// Open calls, ascending.
  var calls: [CallID] = []

  // Peers.
  /// Completions of this loop are answers to other members.
  static let peerLoop = 1
  var peers: PeerState

  /// When each thread's next turn is due.
  private var turns = [UInt64?](repeating: nil, count: ThreadName.allCases.count)

  struct Parts: ~Copyable {
    var core: Core
    var wal: Log<FaultyDisk>
    var replica: Replica<MemoryBackend>
    var services: Services<MemoryBackend>
    var reader: MemoryBackend.Reader
    var status: MemberStatus
    var snapshotIndex: LogIndex
  }

  init(world: Simulation, host: Host, parts: consuming Parts) {
    self.world = world
    self.host = host
    run = host.run
    let milliseconds = host.local(world.now) / 1_000_000
    // Contexts begin with the time of the start: none is ever used again.
    nextContext = milliseconds << 20
    nextTick = host.local(world.now) + world.options.tick
    snapshots = SnapshotStore(host.disk, directory: Paths.snap)
    status = parts.status
    apply = ApplyState(
      snapshotIndex: parts.snapshotIndex, member: host.id, startMilliseconds: milliseconds)
    peers = PeerState(
      ids: RequestIDs(
        member: host.id, startMilliseconds: milliseconds, loop: Self.peerLoop))
    reader = parts.reader
    core = parts.core
    wal = parts.wal
    replica = parts.replica
    services = parts.services
  }

  var now: UInt64 { host.local(world.now) }

  // MARK: Turns

  /// Asks for a turn of `thread` at true time `time`, unless an earlier one is due.
  func wake(_ thread: ThreadName, at wanted: UInt64) {
    let time = max(wanted, world.now + 1000)
    if let due = turns[thread.rawValue], due <= time { return }
    turns[thread.rawValue] = time
    world.queue.add(.turn(host: host.number, run: run, thread: thread), at: time)
  }

  /// A turn soon: threads take a moment to wake.
  func wake(_ thread: ThreadName) {
    wake(thread, at: world.now + world.wakeDelay())
  }

  func take(turn thread: ThreadName) {
    // A turn that an earlier one has overtaken.
    guard let due = turns[thread.rawValue], due <= world.now else { return }
    turns[thread.rawValue] = nil
    switch thread {
    case .raft: turnRaft()
    case .wal: turnWAL()
    case .apply: turnApply()
    case .store: turnStore()
    case .loop: turnLoop()
    case .peers: turnPeers()
    }
  }

  func post(_ input: RaftInput) {
    raftInbox.append(input)
    wake(.raft)
  }

  func post(_ input: WALInput) {
    walInbox.append(input)
    wake(.wal)
  }

  func post(_ input: ApplyInput) {
    applyInbox.append(input)
    wake(.apply)
  }

  func post(_ input: LoopInput) {
    loopInbox.append(input)
    wake(.loop)
  }

  func post(_ input: PeerInput) {
    peers.inbox.append(input)
    wake(.peers)
  }

  /// Begins to live: every thread has its first turn.
  func begin() {
    for thread in ThreadName.allCases where thread != .store && thread != .wal { wake(thread) }
  }

  /// Ends the process from within, as a fatal error does.
  func fail(_ text: String) { world.end(host, why: text, survives: true) }
}

/// Where a member keeps its files.
enum Paths {
  static let wal = "/data/wal"
  static let snap = "/data/snap"
  /// The content that came with a snapshot.
  static func store(_ index: LogIndex) -> String { "\(snap)/\(index.rawValue).db" }
}
