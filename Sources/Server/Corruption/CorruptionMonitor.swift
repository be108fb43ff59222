internal import Basics
internal import Config
internal import Peers
internal import Raft

/// When the leader compares the members' hashes, and the comparison under way.
/// etcd: `monitorKVHash`, `monitorCompactHash`.
struct CorruptionMonitor {
  struct Settings: Sendable {
    /// Between two looks at the newest revision; nil: never.
    var interval: UInt64?
    /// Between two looks at what compactions found; nil: never.
    var compactionInterval: UInt64?
    /// How long the others may take to answer, on top of what the own hash took.
    var answerNanoseconds: UInt64

    init(_ options: Options) {
      let checks = options.corruption
      interval = checks.interval == 0 ? nil : checks.interval
      compactionInterval = checks.hashesCompactions ? checks.compactionInterval : nil
      answerNanoseconds = options.requestNanoseconds
    }
  }

  enum Limits {
    /// How much longer than this member another may take over its hash.
    static let slownessMax: UInt64 = 4
  }

  let settings: Settings
  /// When the next comparison of each kind may begin.
  private var at: UInt64
  private var compactionAt: UInt64
  /// Compactions up to here were found equal on all members.
  var checkedRevision: Int64 = 0
  var check: CorruptionCheck?
  /// Of the newest question to the others: older answers are not taken.
  var number: UInt64 = 0

  init(_ settings: Settings, now: UInt64) {
    self.settings = settings
    at = Self.later(now, settings.interval)
    compactionAt = Self.later(now, settings.compactionInterval)
  }

  private static func later(_ now: UInt64, _ interval: UInt64?) -> UInt64 {
    guard let interval else { return .max }
    let (sum, overflow) = now.addingReportingOverflow(interval)
    return overflow ? .max : sum
  }

  /// The comparison that is due now: the one that has been for longer.
  mutating func due(_ now: UInt64) -> CorruptionCheck.Kind? {
    guard now >= min(at, compactionAt) else { return nil }
    let kind = at <= compactionAt ? CorruptionCheck.Kind.newest : .compactions
    postpone(kind, now)
    return kind
  }

  /// The next comparison of the kind comes an interval from now.
  mutating func postpone(_ kind: CorruptionCheck.Kind, _ now: UInt64) {
    switch kind {
    case .newest: at = Self.later(now, settings.interval)
    case .compactions: compactionAt = Self.later(now, settings.compactionInterval)
    }
  }
}

/// One comparison of the members' hashes.
struct CorruptionCheck {
  enum Kind: Int, CaseIterable {
    case newest, compactions

    var name: String { self == .newest ? "revision" : "compaction" }
  }

  /// How a comparison ended.
  enum Result: Int, CaseIterable {
    /// All members have the same.
    case equal
    case different
    /// Some could not be compared.
    case incomplete

    var name: String { "\(self)" }
  }

  enum Stage {
    /// The own hash is being made.
    case hashing
    /// The others are asked for theirs at its revision.
    case asking(StoreHash)
    /// The own hash is made once more, behind all that was committed when the others answered.
    case hashingAgain(StoreHash)
    /// The others are asked for what they found at compactions, newest first.
    case comparing(StoreHash, older: [StoreHash])
  }

  let kind: Kind
  /// Only as the leader of this term.
  let term: Term
  var stage: Stage
  var startedAt: UInt64
  /// The question for the own hash, and its answer.
  var question: UInt64 = 0
  var hash: StoreHash?
  var failure: String?
  /// Who has not answered yet, and when they are no longer waited for.
  var asked: [NodeID] = []
  var deadline: UInt64 = .max
  var revision: Int64 = 0
  var answers: [Corruption.Answer] = []

  /// Whether what it waited for is there.
  var isReady: Bool {
    switch stage {
    case .hashing, .hashingAgain: hash != nil || failure != nil
    case .asking, .comparing: asked.isEmpty
    }
  }

  mutating func heard(_ member: NodeID, _ answer: HashAnswer) {
    guard asked.contains(member) else { return }
    asked.removeAll { $0 == member }
    answers.append(Corruption.Answer(member, answer))
  }

  /// Gives up those who have not answered.
  mutating func closeAnswers() {
    for member in asked { answers.append(Corruption.Answer(member, .missing("timed out"))) }
    asked = []
  }
}
