internal import Auth
internal import Basics
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// Applies what is committed, answers what only it may answer, and keeps the store's commits,
/// compaction and snapshots going. The one thread that changes the replica.
struct ApplyThread: ~Copyable {
  struct Settings: Sendable {
    var batchNanoseconds: UInt64
    var batchOperationsMax: Int
    var compactionKeysPerStep: Int
    var slowNanoseconds: UInt64
    var snapshotCount: UInt64
    /// Published once, when there is a leader.
    var publication: Member
    var serverVersion: ClusterVersion
    var startMilliseconds: UInt64
    /// Nil: history is compacted only when asked for.
    var compaction: AutoCompactor.Mode?
  }

  enum Limits {
    static let tickNanoseconds: UInt64 = 100_000_000
    static let hashRowsPerStep = 2000
    /// A compaction goes on while so many batches of commits at most wait in the write buffer.
    static let batchesWithCompaction = 4
    /// While a commit runs the thread wakes by its end; by the clock after so long.
    static let commitWaitNanoseconds: UInt64 = 1_000_000_000
    /// After how long an unseen publication is tried again.
    static let publishNanoseconds: UInt64 = 5_000_000_000
    /// Between two proposals of the cluster's version.
    static let versionNanoseconds: UInt64 = 1_000_000_000
    /// What a removed member still does for the others. etcd: `stopWithDelay`.
    static let farewellNanoseconds: UInt64 = 1_000_000_000
  }

  let shared: Shared
  let settings: Settings
  var outcome: Outcome
  private var inbox: [ApplyInput] = []
  /// Committed entries that wait for room in the store's write buffer.
  private var backlog: [[Entry]] = []
  private var nextTick: UInt64 = 0
  var dirtySince: UInt64?
  var snapshotIndex: LogIndex
  /// A snapshot waits for the store to hold everything up to it.
  var pendingSnapshot: Snapshot?
  var isPublished = false
  var publishAgainAt: UInt64 = 0
  /// What was applied when the publication was proposed; every start publishes once.
  var publishedSince: LogIndex?
  /// When the cluster's version was last proposed; not again before it may have been seen.
  var versionProposedAt: UInt64 = 0
  /// What the store held when it was frozen last, and what it holds durably.
  var frozenIndex = LogIndex.zero
  var storedIndex = LogIndex.zero
  /// Snapshots that wait for the store to hold what was applied before they were asked for.
  var snapshots: [(index: LogIndex, stream: SnapshotStream)] = []
  var compactingSince: UInt64?
  var hashingSince: UInt64?
  var isLeader = false
  /// Members that a snapshot is to be made for.
  var exports: [NodeID] = []
  /// A snapshot takes the place of the state; what comes meanwhile waits.
  var restoring: Snapshot?
  var isRestoreOrdered = false
  private var deferred: [ApplyInput] = []
  /// Applied and not told to Raft yet.
  private var appliedIndex: LogIndex?
  /// When this member stops, having been removed: the others hear of it first.
  private var removedAt: UInt64?
  /// Told to stop: the store is committed once more.
  var isEnding = false
  var ids: RequestIDs
  var compactor: AutoCompactor?

  init(shared: Shared, settings: Settings, snapshotIndex: LogIndex) {
    self.shared = shared
    self.settings = settings
    self.snapshotIndex = snapshotIndex
    outcome = Outcome(loops: shared.loops.count + 1)
    let member = shared.board.withLock { $0.status.member }
    // The replica's own number, far from the replica's IDs: answers to these go nowhere.
    ids = RequestIDs(
      member: member, startMilliseconds: settings.startMilliseconds, loop: RequestIDs.loopsMax
    ).distant()
  }

  consuming func run() {
    let shared = shared
    nextTick = Clock.monotonic() + Limits.tickNanoseconds
    compactor = settings.compaction.map { AutoCompactor($0, now: Clock.monotonic()) }
    announceMembers()
    while true {
      // While stores change the replica is the store thread's.
      let isBusy =
        restoring == nil
        && (shared.replica.isHashing || (shared.replica.isCompacting && hasRoom))
      let commitAt = dirtySince.map { $0 + commitDelay } ?? .max
      let deadline = restoring != nil ? .max : isBusy ? 0 : min(nextTick, commitAt)
      shared.apply.wait(until: deadline, into: &inbox)
      let now = Clock.monotonic()
      if restoring != nil {
        if holdBack() { continue }
      }
      if take(now) { isEnding = true }
      applyBacklog(now)
      if restoring != nil {
        deliver()
        restoreIfDue()
        continue
      }
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        shared.replica.tick(now: now, into: &outcome)
        expireTokens(now)
        compactIfDue(now)
        report()
      }
      compact(now)
      hash()
      publish(now)
      deliver()
      store(now)
      if isEnding, !shared.replica.store.isCommitting {
        shared.background.post(.stop)
        return
      }
    }
  }

  /// Handles the inbox: questions first, since keep-alives go ahead of bulk work. True at the end.
  private mutating func take(_ now: UInt64) -> Bool {
    let shared = shared
    for case .queries(let queries) in inbox {
      for query in queries { shared.replica.query(query, now: now, into: &outcome) }
    }
    var ends = false
    for (place, input) in inbox.enumerated() {
      switch input {
      case .queries: break
      case .committed(let entries): backlog.append(entries)
      case .standing(let standing):
        isLeader = standing.role == .leader
        versionProposedAt = 0
        shared.replica.roleChanged(leads: isLeader ? standing.term : nil, now: now)
      case .snapshotWanted(let member):
        if !exports.contains(member) { exports.append(member) }
      case .restore(let snapshot):
        applyBacklog(now, isForced: true)
        begin(snapshot)
        for later in inbox[(place + 1)...] {
          switch later {
          case .queries: break
          // The change of stores waits for it.
          case .stored(let failure): stored(failure)
          default: deferred.append(later)
          }
        }
        return ends
      case .restored(let unanswered):
        restored()
        shared.replica.failed(unanswered, into: &outcome)
      case .stored(let failure): stored(failure)
      case .defragmented(let id, let failure):
        shared.replica.defragmented(
          id, failure: failure.map { Failure(.unknown, $0) }, into: &outcome)
      case .snapshot(let stream): snapshots.append((shared.replica.appliedIndex, stream))
      case .usedTokens(let tokens):
        shared.storeLock.lockForWriting()
        shared.replica.touch(tokens, now: now)
        shared.storeLock.unlock()
      case .stop: ends = true
      }
    }
    return ends
  }

  private func expireTokens(_ now: UInt64) {
    guard shared.replica.wantsTokenExpiry(now: now) else { return }
    shared.storeLock.lockForWriting()
    shared.replica.expireTokens(now: now)
    shared.storeLock.unlock()
  }

  /// Applies what the store has room for. While the disk takes less than is written, the rest
  /// waits here within the core's bounds, and then proposals are refused at the door.
  private mutating func applyBacklog(_ now: UInt64, isForced: Bool = false) {
    var done = 0
    while done < backlog.count, isForced || !isFull {
      apply(backlog[done], now)
      done += 1
    }
    backlog.removeFirst(done)
  }

  private mutating func apply(_ entries: [Entry], _ now: UInt64) {
    let shared = shared
    let before = shared.replica.tally.applied
    let start = Clock.monotonic()
    shared.storeLock.lockForWriting()
    shared.replica.apply(entries, now: now, into: &outcome)
    shared.storeLock.unlock()
    if let why = outcome.broken {
      shared.log.fatal(
        "an entry of the log could not be carried out; the process ends so that this member does "
          + "not differ from the others", ("error", why))
    }
    let took = Clock.monotonic() - start
    shared.metrics.noteApplied(
      before, shared.replica.tally.applied, nanoseconds: took, slow: settings.slowNanoseconds)
    if took > settings.slowNanoseconds {
      shared.log.warn(
        "apply request took too long", ("took", Logger.milliseconds(took)),
        ("expected-duration", Logger.milliseconds(settings.slowNanoseconds)),
        ("requests", String(entries.count)),
        ("applied-index", String(shared.replica.appliedIndex.rawValue)))
    }
    appliedIndex = shared.replica.appliedIndex
    shared.metrics.proposalsApplied.add(entries.count)
    if dirtySince == nil { dirtySince = now }
  }

  /// Lets others see what was counted.
  private func report() {
    let tally = shared.replica.tally
    let rows = shared.replica.store.compactedRows
    let hashes = shared.replica.compactionHashes
    shared.board.withLock { board in
      board.applied = tally
      board.compactedRows = rows
      board.compactionHashes = hashes
    }
  }

  /// Hands on what the batch left to do.
  private mutating func deliver() {
    updateBoard()
    let hasEvents = !outcome.events.isEmpty
    for (loop, handle) in shared.loops.enumerated() {
      if hasEvents { handle.box.post(.events(outcome.events)) }
      if !outcome.completions[loop].isEmpty {
        handle.box.post(.completions(outcome.completions[loop]))
      } else if !hasEvents, !inbox.isEmpty {
        handle.box.post(.wake)
      }
    }
    if !outcome.proposals.isEmpty { shared.raft.post(.proposals(outcome.proposals)) }
    if !outcome.completions[shared.peerLoop].isEmpty {
      shared.peers.box.post(.completions(outcome.completions[shared.peerLoop]))
    }
    // Raft takes a change of the members into force before it hears that it was applied.
    if !outcome.configurations.isEmpty {
      shared.raft.post(.configurations(outcome.configurations))
    }
    if let index = appliedIndex { shared.raft.post(.applied(index)) }
    appliedIndex = nil
    if outcome.membershipChanged { announceMembers() }
    for id in outcome.defragmentations { shared.background.post(.defragment(id)) }
    if outcome.removedSelf { removedAt = Clock.monotonic() }
    outcome.removeAll()
  }

  func updateBoard() {
    let store = (
      revision: shared.replica.store.currentRevision,
      compactRevision: shared.replica.store.compactRevision, keys: shared.replica.store.keyCount
    )
    let applied = shared.replica.appliedIndex
    let alarms = shared.replica.alarms.active
    let version = shared.replica.cluster.version?.text
    let auth = (
      isEnabled: shared.replica.access.store.isEnabled,
      revision: shared.replica.access.store.revision
    )
    shared.board.withLock { board in
      board.status.appliedIndex = applied
      board.status.revision = store.revision
      board.status.compactRevision = store.compactRevision
      board.status.alarms = alarms
      board.status.isAuthEnabled = auth.isEnabled
      board.status.authRevision = auth.revision
      board.clusterVersion = version
      board.keyCount = store.keys
    }
  }

  func stopIfRemoved(_ now: UInt64) {
    guard let removedAt, now >= removedAt + Limits.farewellNanoseconds else { return }
    shared.endRemoved()
  }

  /// While stores change: lets through what the change waits for, and keeps the rest for after.
  /// True: nothing is to be done now.
  private mutating func holdBack() -> Bool {
    var through: [ApplyInput] = []
    for input in inbox {
      switch input {
      case .stored, .restored: through.append(input)
      default: deferred.append(input)
      }
    }
    inbox = through
    if case .restored? = through.last {
      inbox += deferred
      deferred = []
    }
    return inbox.isEmpty
  }
}
