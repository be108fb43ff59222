internal import Basics
internal import MVCC
internal import Membership
internal import Raft
internal import Replica
internal import WAL

/// A machine that a member runs on: what outlives the process, and the machine's moods.
final class Host {
  enum State {
    /// The process runs, or may be paused.
    case up
    /// It ended and will be started again.
    case down
    /// It will not come back: removed from the cluster, or its disk is beyond repair.
    case gone
  }

  let number: Int
  let member: Membership.Member
  var id: NodeID { member.id }
  let disk = FaultyDisk()
  var backend = MemoryBackend()
  /// The first members, for a log that begins; nil for one that joins.
  let founders: [Membership.Member]?
  var process: Process?
  var state = State.down
  /// Counts the starts, so that what was meant for an earlier one is void.
  var run = 0
  var pausedUntil: UInt64 = 0
  /// What the next start finds on the disk.
  var survival = FaultyDisk.Survival.everything
  /// What the log must hold after whatever happens.
  var durable = DurableLog()
  /// Until when something else fills the disk, over restarts: the log's, the store's or both.
  var fullUntil: UInt64 = 0
  var isLogFull = false
  /// How many bytes the store may still commit.
  var storeRoom = Int.max
  /// What it has acknowledged to the leader of a term.
  var acknowledged = (term: Term.zero, index: LogIndex.zero)
  /// Whether a bit was flipped on the disk: a start may be refused.
  var isDamaged = false
  /// Whether the disk is beyond repair.
  var isLost = false
  /// Whether the cluster counts it among its members, and as what.
  var isMember: Bool
  var isLearner = false

  private var trueBase: UInt64 = 0
  private var localBase: UInt64 = 1_000_000_000_000
  private var partsPerMillion: Int64 = 0

  init(number: Int, member: Membership.Member, founders: [Membership.Member]?) {
    self.number = number
    self.member = member
    self.founders = founders
    isMember = founders != nil
    guard (try? disk.makeDirectory("/data")) != nil,
      (try? disk.makeDirectory("/data/snap")) != nil,
      (try? disk.syncDirectory("/data")) != nil, (try? disk.syncDirectory("/")) != nil
    else { preconditionFailure("an empty disk takes a directory") }
  }

  // MARK: The clock

  /// The machine's monotonic clock.
  func local(_ time: UInt64) -> UInt64 {
    let passed = Int64(time - trueBase)
    return localBase &+ UInt64(passed + passed * partsPerMillion / 1_000_000)
  }

  /// The true time at which the machine's clock shows `local`, or a little later.
  func trueTime(_ local: UInt64) -> UInt64 {
    guard local > localBase else { return trueBase }
    let passed = Int64(local - localBase)
    return trueBase &+ UInt64(passed * 1_000_000 / (1_000_000 + partsPerMillion)) &+ 1000
  }

  /// Makes the clock run faster or slower from `now` on.
  func setClock(partsPerMillion rate: Int64, now: UInt64) {
    localBase = local(now)
    trueBase = now
    partsPerMillion = rate
  }
}

/// What was made durable in a log, kept beside it for comparison.
struct DurableLog {
  /// Terms of the entries from `base` + 1 on.
  private(set) var terms: [Term] = []
  private(set) var base = LogIndex.zero
  private(set) var baseTerm = Term.zero
  var hardState = HardState.empty

  var last: LogIndex { base + terms.count }

  func term(at index: LogIndex) -> Term? {
    if index == base { return baseTerm }
    guard index > base, index <= last else { return nil }
    return terms[index - base - 1]
  }

  /// Whether the entry, or a snapshot that covers it, is there.
  func holds(_ index: LogIndex, _ term: Term) -> Bool {
    index < base || self.term(at: index) == term
  }

  mutating func append(_ entries: [Entry]) {
    guard let first = entries.first else { return }
    let kept = max(0, first.index - base - 1)
    if kept < terms.count { terms.removeLast(terms.count - kept) }
    for entry in entries where entry.index > base { terms.append(entry.term) }
  }

  mutating func install(_ index: LogIndex, _ term: Term) {
    base = index
    baseTerm = term
    terms = []
  }

  /// Takes what a start found, which is durable from then on.
  mutating func recover(_ snapshot: SnapshotMetadata?, _ entries: [Entry], _ state: HardState) {
    base = snapshot?.index ?? .zero
    baseTerm = snapshot?.term ?? .zero
    terms = entries.map(\.term)
    hardState = state
  }
}
