internal import Basics
internal import Platform
internal import Replica
internal import Services
internal import Synchronization

/// A number that many threads add to or set.
final class Counter: Sendable {
  // Relaxed: read for display only; nothing is ordered by it.
  private let count = Atomic<Int>(0)
  func add(_ amount: Int) { count.add(amount, ordering: .relaxed) }
  func set(_ value: Int) { count.store(value, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

/// A histogram over doubling buckets.
final class Histogram: Sendable {
  struct State: Sendable {
    var buckets: [Int]
    var sum = 0.0
    var count = 0
  }

  let bounds: [Double]
  private let unit: Double
  private let state: Lock<State>

  /// `count` bounds from `first`, each twice the one before. `unit`: what they are in, in
  /// nanoseconds.
  init(first: Double, count: Int, unit: Double = 1e9) {
    var bounds: [Double] = []
    var bound = first
    for _ in 0..<count {
      bounds.append(bound)
      bound *= 2
    }
    self.bounds = bounds
    self.unit = unit
    state = Lock(State(buckets: Array(repeating: 0, count: count)))
  }

  /// Counts `times` of `nanoseconds` each.
  func observe(nanoseconds: UInt64, times: Int = 1) {
    let value = Double(nanoseconds) / unit
    let place = bounds.firstIndex { value <= $0 }
    state.withLock { state in
      if let place { state.buckets[place] += times }
      state.sum += value * Double(times)
      state.count += times
    }
  }

  var current: State { state.withLock { $0 } }
}

/// What the server counts beside its loops; buckets are etcd's.
final class Metrics: Sendable {
  let walSync = Histogram(first: 0.001, count: 14)
  let walWrite = Histogram(first: 0.001, count: 14)
  let walBytes = Counter()
  let backendCommit = Histogram(first: 0.001, count: 14)
  let defragmentation = Histogram(first: 0.1, count: 13)
  let defragmentations = Counter()
  let backendSnapshot = Histogram(first: 0.01, count: 17)
  let snapshotSave = Histogram(first: 0.001, count: 14)
  /// The `.snap.db` files that followers get.
  let databaseSync = Histogram(first: 0.001, count: 14)
  let databaseSave = Histogram(first: 0.1, count: 10)
  let hash = Histogram(first: 0.01, count: 15)
  let hashRevision = Histogram(first: 0.01, count: 15)
  let compactionPause = Histogram(first: 1, count: 13, unit: 1e6)
  let indexPause = Histogram(first: 0.5, count: 14, unit: 1e6)
  let compactionTotal = Histogram(first: 100, count: 14, unit: 1e6)
  /// Seconds since 1970.
  let lastCompaction = Counter()
  let proposalsApplied = Counter()
  let proposalsFailed = Counter()
  let slowApplies = Counter()
  let lateHeartbeats = Counter()
  /// Snapshots of a leader that are being taken over now.
  let snapshotsInProgress = Counter()
  let receivedBytes = Counter()
  let sentBytes = Counter()
  let peers = PeerMetrics()
  let healthSuccesses = Counter()
  let healthFailures = Counter()
  let scrapes = Counter()
  /// By operation: refused, carried out.
  let applied = ApplyTally.Operation.allCases.map { _ in
    [Histogram(first: 0.0001, count: 20), Histogram(first: 0.0001, count: 20)]
  }
  let page = Lock(KeptPage())
  private let checks = Lock<[CheckCount]>([])
  /// By kind, then result.
  let corruptionChecks = CorruptionCheck.Kind.allCases.map { _ in
    CorruptionCheck.Result.allCases.map { _ in Counter() }
  }

  func noteCorruptionCheck(_ kind: CorruptionCheck.Kind, _ result: CorruptionCheck.Result) {
    corruptionChecks[kind.rawValue][result.rawValue].add(1)
  }

  /// How one check of `/livez` or `/readyz` went.
  struct CheckCount: Sendable {
    var type: String
    var name: String
    var successes = 0
    var failures = 0
    var isFine = true
  }

  func noteCheck(_ type: String, _ name: String, isFine: Bool) {
    checks.withLock { checks in
      let at = checks.firstIndex { $0.type == type && $0.name == name } ?? checks.count
      if at == checks.count { checks.append(CheckCount(type: type, name: name)) }
      checks[at].isFine = isFine
      if isFine { checks[at].successes += 1 } else { checks[at].failures += 1 }
    }
  }

  var checkCounts: [CheckCount] { checks.withLock { $0 } }

  /// Counts what a batch of entries applied, from the counts before and after: each for its share
  /// of the time, since a look at the clock for each would cost more than most of them do.
  /// `slow`: a batch that takes longer counts as slow.
  func noteApplied(_ before: [Int], _ after: [Int], nanoseconds: UInt64, slow: UInt64) {
    var total = 0
    for place in after.indices { total += after[place] - before[place] }
    guard total > 0 else { return }
    let each = nanoseconds / UInt64(total)
    for place in after.indices where after[place] > before[place] {
      applied[place / 2][place % 2].observe(
        nanoseconds: each, times: after[place] - before[place])
    }
    // Of entries that are slow together at least one is.
    if nanoseconds > slow { slowApplies.add(each > slow ? total : 1) }
  }
}

/// What one loop has counted.
struct LoopReport: Sendable {
  var tally = Tally()
  var clients = ClientVersions()
}

/// Calls by the version that their clients say they have.
struct ClientVersions: Sendable {
  /// Further versions count as unknown: a client can say what it likes.
  private static let versionsMax = 32
  private static let versionBytesMax = 32

  struct Entry: Sendable {
    var version: String
    var bytes: [UInt8]
    var unary = 0
    var streams = 0
  }

  private(set) var entries = [Entry(version: "unknown", bytes: [])]
  /// The client that called last is likely to call next.
  private var last = 0

  mutating func note(_ version: RawSpan, _ method: Method) {
    let bytes = entries[last].bytes
    if !bytes.rawSpan.equals(version) { last = place(version) }
    if method.isServerStreaming { entries[last].streams += 1 } else { entries[last].unary += 1 }
  }

  private mutating func place(_ version: RawSpan) -> Int {
    let bytes = version.copied()
    if let at = entries.firstIndex(where: { $0.bytes == bytes }) { return at }
    guard entries.count < Self.versionsMax, bytes.count <= Self.versionBytesMax,
      bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x5c })
    else { return 0 }
    entries.append(Entry(version: String(decoding: bytes, as: UTF8.self), bytes: bytes))
    return entries.count - 1
  }

  mutating func add(_ other: ClientVersions) {
    for entry in other.entries {
      if let at = entries.firstIndex(where: { $0.version == entry.version }) {
        entries[at].unary += entry.unary
        entries[at].streams += entry.streams
      } else {
        entries.append(entry)
      }
    }
  }
}
