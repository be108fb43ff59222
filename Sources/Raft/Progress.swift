public import Basics

/// What a leader knows of one member's log. etcd: raft/tracker.
public struct Progress: Equatable, Sendable {
  public enum State: Equatable, Sendable {
    /// One message at a time until the logs are known to match.
    case probe
    /// A stream of appends, bounded by the inflights.
    case replicate
    /// Nothing until a snapshot up to at least this index has arrived or failed.
    case snapshot(LogIndex)
  }

  public let id: NodeID
  public internal(set) var isLearner: Bool
  /// The highest index known to be in the member's log, durably.
  public internal(set) var match: LogIndex
  /// The next index to send; always above `match`.
  public internal(set) var next: LogIndex
  public internal(set) var state: State = .probe
  /// Whether the member was heard of since the last check of the quorum.
  public internal(set) var isRecentlyActive: Bool
  /// A probe is out and unanswered.
  var isProbeOut = false
  /// An append must go out with the next output, even an empty one.
  var owesAppend = false
  /// The commit index that the member was last told.
  var sentCommit = LogIndex.zero
  /// The newest round of read confirmations that the member answered.
  var readRound: UInt64 = 0
  var inflights: Inflights

  init(
    id: NodeID, isLearner: Bool, match: LogIndex, next: LogIndex, isRecentlyActive: Bool,
    inflights: Inflights
  ) {
    self.id = id
    self.isLearner = isLearner
    self.match = match
    self.next = next
    self.isRecentlyActive = isRecentlyActive
    self.inflights = inflights
  }

  var isPaused: Bool {
    switch state {
    case .probe: isProbeOut
    case .replicate: inflights.isFull
    case .snapshot: true
    }
  }

  mutating func becomeProbe() {
    if case .snapshot(let pending) = state {
      next = max(match + 1, pending + 1)
    } else {
      next = match + 1
    }
    enter(.probe)
  }

  mutating func becomeReplicate() {
    next = match + 1
    enter(.replicate)
  }

  mutating func becomeSnapshot(_ index: LogIndex) { enter(.snapshot(index)) }

  private mutating func enter(_ new: State) {
    state = new
    isProbeOut = false
    inflights.removeAll()
  }

  /// Notes that the member has everything up to `index`; whether that is news.
  mutating func update(to index: LogIndex) -> Bool {
    next = max(next, index + 1)
    guard index > match else { return false }
    match = index
    isProbeOut = false
    return true
  }

  /// Steps back after a rejection; false when the rejection is stale.
  mutating func decrease(rejected: LogIndex, hint: LogIndex) -> Bool {
    if state == .replicate {
      guard rejected > match else { return false }
      next = match + 1
      return true
    }
    guard next == rejected + 1 else { return false }
    next = max(min(rejected, hint + 1), match + 1)
    isProbeOut = false
    return true
  }
}

/// The appends on their way to one member: a bounded queue of last indices and sizes.
struct Inflights: Equatable, Sendable {
  private struct Flight: Equatable {
    var last: LogIndex
    var bytes: Int
  }

  private let countMax: Int
  private let bytesMax: Int
  private var flights: [Flight] = []
  private var head = 0
  private var bytes = 0

  init(countMax: Int, bytesMax: Int) {
    self.countMax = countMax
    self.bytesMax = bytesMax
  }

  var count: Int { flights.count - head }
  var isFull: Bool { count >= countMax || bytes >= bytesMax }

  mutating func append(last: LogIndex, bytes size: Int) {
    precondition(!isFull, "an append was sent past the limit")
    flights.append(Flight(last: last, bytes: size))
    bytes += size
  }

  /// Forgets the appends that end at or before `index`.
  mutating func release(upTo index: LogIndex) {
    while head < flights.count, flights[head].last <= index { releaseFirst() }
  }

  mutating func releaseFirst() {
    guard head < flights.count else { return }
    bytes -= flights[head].bytes
    head += 1
    if head == flights.count {
      flights.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= countMax {
      flights.removeFirst(head)
      head = 0
    }
  }

  mutating func removeAll() {
    flights.removeAll(keepingCapacity: true)
    head = 0
    bytes = 0
  }
}
