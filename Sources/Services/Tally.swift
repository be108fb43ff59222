internal import MVCC
internal import Replica

/// What the services of one loop have counted: plain numbers of one thread, which the shell
/// copies out a few times a second and sums over the loops.
public struct Tally: Sendable {
  /// gRPC's codes, 0 to 16.
  public static let codeCount = 17
  /// Upper bounds, in nanoseconds, of the buckets of `times`; one more bucket has none.
  /// grpc-prometheus: the default buckets.
  public static let timeBounds: [UInt64] = [
    5_000_000, 10_000_000, 25_000_000, 50_000_000, 100_000_000, 250_000_000, 500_000_000,
    1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
  ]

  // By method.
  public private(set) var started = Self.perMethod(1)
  public private(set) var received = Self.perMethod(1)
  public internal(set) var sent = Self.perMethod(1)
  /// By method and code.
  public private(set) var handled = Self.perMethod(Self.codeCount)
  /// By method and bucket: how long calls took. Empty unless asked for.
  public private(set) var times: [Int] = []
  /// By method, in nanoseconds.
  public private(set) var timeSums: [UInt64] = []

  /// Reads of the store: ranges, and transactions of more than one.
  public internal(set) var ranges = 0
  public internal(set) var txns = 0
  public internal(set) var readIndexesRetried = 0
  public internal(set) var readIndexesFailed = 0
  public internal(set) var proposalsFailed = 0
  public internal(set) var learnersPromoted = 0
  /// Promotions refused since the learner lags.
  public internal(set) var learnersNotReady = 0
  /// Events sent to watchers.
  public internal(set) var events = 0

  // As they stand.
  public internal(set) var pending = 0
  public internal(set) var watchStreams = 0
  public internal(set) var watchers = 0
  public internal(set) var slowWatchers = 0
  public internal(set) var pendingEvents = 0

  public init() {}

  private static func perMethod(_ count: Int) -> [Int] {
    Array(repeating: 0, count: Method.allCases.count * count)
  }

  mutating func timeCalls() {
    times = Self.perMethod(Self.timeBounds.count + 1)
    timeSums = Array(repeating: 0, count: Method.allCases.count)
  }

  mutating func opened(_ method: Method) { started[Int(method.rawValue)] += 1 }
  mutating func received(_ method: Method) { received[Int(method.rawValue)] += 1 }
  mutating func sent(_ method: Method) { sent[Int(method.rawValue)] += 1 }

  /// `time`: how long the call took, in nanoseconds.
  mutating func ended(_ method: Method, _ code: UInt8, time: UInt64) {
    handled[Int(method.rawValue) * Self.codeCount + Int(code)] += 1
    guard !times.isEmpty else { return }
    let bucket = Self.timeBounds.firstIndex { time <= $0 } ?? Self.timeBounds.count
    times[Int(method.rawValue) * (Self.timeBounds.count + 1) + bucket] += 1
    timeSums[Int(method.rawValue)] &+= time
  }
}

extension Services {
  /// Measures how long calls take, from now on. etcd: `--metrics=extensive`.
  public mutating func timeCalls() { tally.timeCalls() }

  /// Everything counted so far, and what waits now.
  public mutating func report() -> Tally {
    tally.pending = waits.count
    tally.watchStreams = hub.streamCount
    tally.watchers = hub.watcherCount
    tally.slowWatchers = hub.slowWatcherCount
    tally.pendingEvents = hub.queuedEventCount
    tally.events = hub.sentEventCount
    return tally
  }

  /// Counts a call's end.
  mutating func count(_ call: Call, code: UInt8) {
    guard !call.isOwn else { return }
    tally.ended(call.method, code, time: status.now &- call.openedAt)
  }

  /// Sends one of several messages of a call.
  mutating func send(_ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox) {
    tally.sent(method)
    out.message(id, message)
  }
}
