internal import Basics
internal import Replica
internal import Services

/// One question of a probe.
enum HealthCheck: String {
  case alarms, leader, range
  /// The same, of this member's own state.
  case localRange
  case dataCorruption = "data_corruption"
  case serializableRead = "serializable_read"
  case linearizableRead = "linearizable_read"
  case nonLearner = "non_learner"

  /// Whether the check is a read, and then whether any state will do.
  var read: Bool? {
    switch self {
    case .range, .linearizableRead: false
    case .localRange, .serializableRead: true
    default: nil
    }
  }

  /// What a check that needs no read finds wrong. `excluded`: alarms that do not count.
  func verdict(_ board: Board, _ excluded: [String]) -> String? {
    switch self {
    case .alarms:
      let names = board.status.alarms.map(\.kind.name)
      return names.first { !excluded.contains($0) }.map { "ALARM \($0)" }
    case .leader: return board.status.leader == .none ? "RAFT NO LEADER" : nil
    case .dataCorruption:
      let isCorrupt = board.status.alarms.contains { $0.kind == .corrupt }
      return isCorrupt ? "alarm activated: CORRUPT" : nil
    case .nonLearner: return board.status.isLearner ? "not supported for learner" : nil
    default: return nil
    }
  }
}

/// A health check on its way: what is still to be asked, and what was found.
/// etcd: etcdhttp/health.go.
struct HealthProbe {
  enum Kind: String {
    /// `/health`: stops at the first thing wrong.
    case health
    case livez, readyz
  }

  let kind: Kind
  private var checks: [HealthCheck]
  let excluded: [String]
  private let isVerbose: Bool
  private var done: [(check: HealthCheck, failure: String?)] = []

  /// The probe of a path; nil when there is none such. `query`: its parameters.
  init?(path: String, _ query: [(name: String, value: String)]) {
    excluded = query.filter { $0.name == "exclude" && !$0.value.isEmpty }.map(\.value)
    isVerbose = query.contains { $0.name == "verbose" }
    let parts = path.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
    guard let first = parts.first, let kind = Kind(rawValue: String(first)) else { return nil }
    self.kind = kind
    switch kind {
    case .health:
      guard parts.count == 1 else { return nil }
      let isLocal = query.first { $0.name == "serializable" }?.value == "true"
      checks = isLocal ? [.alarms, .localRange] : [.alarms, .leader, .range]
      return
    case .livez: checks = [.serializableRead]
    case .readyz: checks = [.dataCorruption, .serializableRead, .linearizableRead, .nonLearner]
    }
    if parts.count == 2 {
      checks.removeAll { $0.rawValue != parts[1] }
      guard !checks.isEmpty else { return nil }
    } else if parts.count == 1 {
      let excluded = excluded
      checks.removeAll { excluded.contains($0.rawValue) }
    } else {
      return nil
    }
  }

  /// The next check; nil when the answer is known.
  var next: HealthCheck? {
    if kind == .health, done.last?.failure != nil { return nil }
    return done.count < checks.count ? checks[done.count] : nil
  }

  /// What became of the next check: nil when all is well. A read that is refused for want of
  /// rights was served as well as one that is not. etcd: `checkAPI`.
  mutating func note(_ failure: String?) {
    guard let check = next else { return }
    let refusals = [Failure.userEmpty.text, Failure.permissionDenied.text]
    let isServed = check.read != nil && failure.map(refusals.contains) ?? false
    done.append((check, isServed ? nil : failure))
  }

  /// The answer, once there is no next check. Counts it.
  func answer(_ metrics: Metrics, _ log: Logger) -> WebAnswer {
    kind == .health ? health(metrics, log) : status(metrics, log)
  }

  private func health(_ metrics: Metrics, _ log: Logger) -> WebAnswer {
    guard let (check, failure) = done.last, let failure else {
      metrics.healthSuccesses.add(1)
      return WebAnswer(
        200, "text/plain; charset=utf-8", Array(#"{"health":"true","reason":""}"#.utf8))
    }
    metrics.healthFailures.add(1)
    let reason = check.read == nil ? failure : "RANGE ERROR:\(failure)"
    log.warn("/health is false", ("reason", reason))
    return .error(503, #"{"health":"false","reason":"\#(reason)"}"#)
  }

  private func status(_ metrics: Metrics, _ log: Logger) -> WebAnswer {
    var report = ""
    for (check, failure) in done {
      let name = check.rawValue
      report += failure.map { "[-]\(name) failed: \($0)\n" } ?? "[+]\(name) ok\n"
      metrics.noteCheck(kind.rawValue, name, isFine: failure == nil)
    }
    if done.contains(where: { $0.failure != nil }) {
      log.warn("a health check failed", ("path", "/\(kind.rawValue)"), ("reason", report))
      return .error(503, report)
    }
    var answer = WebAnswer(
      200, "text/plain; charset=utf-8", Array(((isVerbose ? report : "") + "ok\n").utf8))
    answer.headers = [("X-Content-Type-Options", "nosniff")]
    return answer
  }
}
