internal import API
internal import Basics
internal import HTTP1
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// Compares the members' hashes from the leader's side and raises CORRUPT.
/// etcd: etcdserver/corrupt.go.
extension PeerThread {
  /// Begins what is due, and goes on with what is under way. Called between a wake's events: what
  /// they bring is only noted.
  mutating func tickCorruption() {
    let standing = shared.board.withLock { (isLeader: $0.role == .leader, term: $0.status.term) }
    guard var check = corruption.check else {
      guard let kind = corruption.due(now), standing.isLeader else { return }
      begin(kind, standing.term)
      return
    }
    corruption.postpone(check.kind, now)
    guard standing.isLeader, standing.term == check.term else {
      corruption.check = nil
      return
    }
    if proceed(&check) {
      corruption.check = check
    } else {
      corruption.check = nil
    }
  }

  private mutating func begin(_ kind: CorruptionCheck.Kind, _ term: Term) {
    var check = CorruptionCheck(kind: kind, term: term, stage: .hashing, startedAt: now)
    switch kind {
    case .newest: hashOwn(&check)
    case .compactions:
      let known = shared.board.withLock { $0.compactionHashes }
      let hashes = known.reversed().filter { $0.revision > corruption.checkedRevision }.map {
        StoreHash(hash: $0.hash, revision: $0.revision, compactRevision: $0.compactRevision)
      }
      guard let newest = hashes.first else { return }
      check.stage = .comparing(newest, older: Array(hashes.dropFirst()))
      ask(newest.revision, &check)
    }
    corruption.check = check
  }

  /// False when the comparison has ended.
  private mutating func proceed(_ check: inout CorruptionCheck) -> Bool {
    switch check.stage {
    case .hashing, .hashingAgain:
      if let failure = check.failure {
        shared.log.warn("failed to check hash KV", ("error", failure))
        return false
      }
      guard let hash = check.hash else { return true }
      if case .hashingAgain(let before) = check.stage {
        let verdict = Corruption.atNewest(
          own: handshake.member, before: before, after: hash, answers: check.answers)
        conclude(verdict, check, before)
        shared.log.info(
          "finished peer corruption check",
          ("number-of-peers-checked", String(verdict.comparedCount)))
        return false
      }
      check.stage = .asking(hash)
      ask(hash.revision, &check)
    case .asking(let before):
      guard check.asked.isEmpty || now >= check.deadline else { return true }
      check.closeAnswers()
      check.stage = .hashingAgain(before)
      hashOwn(&check)
    case .comparing(let hash, var older):
      guard check.asked.isEmpty || now >= check.deadline else { return true }
      check.closeAnswers()
      let verdict = Corruption.atCompaction(
        own: handshake.member, hash: hash, answers: check.answers)
      conclude(verdict, check, hash)
      if !verdict.accused.isEmpty { return false }
      if verdict.comparedCount == check.answers.count {
        corruption.checkedRevision = hash.revision
        return false
      }
      guard !older.isEmpty else { return false }
      let next = older.removeFirst()
      check.stage = .comparing(next, older: older)
      ask(next.revision, &check)
    }
    return true
  }

  /// Asks the apply thread, behind all that is committed now: no member is further then.
  private mutating func hashOwn(_ check: inout CorruptionCheck) {
    let query = Query(id: ids.next(), kind: .hashKV(revision: 0))
    check.question = query.id
    check.hash = nil
    questions[query.id] = Question(token: 0, kind: .ownHash, deadline: .max)
    shared.raft.post(.questions([query]))
  }

  /// The apply thread's answer.
  mutating func hashed(_ item: Completion, _ batch: CompletionBatch) {
    guard corruption.check?.question == item.id else { return }
    let found = StoreHash(item, batch)
    corruption.check?.hash = found
    if found == nil { corruption.check?.failure = item.failure?.text ?? "no hash" }
  }

  /// Asks all other members for their hash at a revision.
  private mutating func ask(_ revision: Int64, _ check: inout CorruptionCheck) {
    let took = now - check.startedAt
    let (slowest, _) = took.multipliedReportingOverflow(by: CorruptionMonitor.Limits.slownessMax)
    let patience = corruption.settings.answerNanoseconds &+ slowest
    corruption.number += 1
    check.revision = revision
    check.answers = []
    check.deadline = now &+ patience
    check.asked = members.members.filter { $0.id != handshake.member && !$0.peerURLs.isEmpty }
      .map(\.id)
    // Refusals may come at once: they are to find the comparison.
    corruption.check = check
    let request = HashExchange.request(revision, cluster: handshake.cluster)
    for id in check.asked {
      if let remote = remote(id) {
        ask(remote, .hash(corruption.number), request, patience)
      } else {
        corruption.check?.heard(id, .missing("not connected"))
      }
    }
    if let changed = corruption.check { check = changed }
  }

  /// What came of asking a member.
  mutating func heard(_ number: UInt64, _ member: NodeID, _ answer: (Int64) -> HashAnswer) {
    guard let check = corruption.check, corruption.number == number else { return }
    let found = answer(check.revision)
    if case .missing(let why) = found {
      shared.log.warn(
        "failed hash kv request", ("remote-peer-id", Handshake.text(member.rawValue)),
        ("requested-revision", String(check.revision)), ("error", why))
    }
    corruption.check?.heard(member, found)
  }

  // MARK: The end

  private mutating func conclude(
    _ verdict: Corruption.Verdict, _ check: CorruptionCheck, _ hash: StoreHash
  ) {
    for finding in verdict.findings { report(finding, check.kind, hash) }
    let isComplete = verdict.comparedCount == check.answers.count
    shared.metrics.noteCorruptionCheck(
      check.kind,
      !verdict.accused.isEmpty ? .different : isComplete ? .equal : .incomplete)
    let known = shared.board.withLock { $0.status.alarms }
    for member in verdict.accused
    where !known.contains(where: { $0.kind == .corrupt && $0.member == member }) {
      shared.log.error(
        "raising the alarm CORRUPT",
        (
          "member-id",
          member == .none ? "0: no majority has one hash" : Handshake.text(member.rawValue)
        ))
      var alarm = Alarms.proposal(.corrupt, of: member, id: ids.next())
      alarm.leading = check.term
      shared.raft.post(.proposals([alarm]))
    }
  }

  private func report(
    _ finding: Corruption.Finding, _ kind: CorruptionCheck.Kind, _ hash: StoreHash
  ) {
    let own = [
      ("revision", String(hash.revision)),
      ("leader-compact-revision", String(hash.compactRevision)),
      ("leader-hash", String(hash.hash)),
    ]
    switch finding {
    case .changed: shared.log.warn("found hash mismatch", own[0], own[1], own[2])
    case .ahead(let member, let revision):
      shared.log.warn(
        "revision from follower must be less than or equal to leader's", own[0],
        ("follower-revision", String(revision)),
        ("follower-peer-id", Handshake.text(member.rawValue)))
    case .compactedAhead(let member, let revision):
      shared.log.warn(
        "compact revision from follower must be less than or equal to leader's", own[0], own[1],
        ("follower-compact-revision", String(revision)),
        ("follower-peer-id", Handshake.text(member.rawValue)))
    case .differs(let member, let other):
      shared.log.error(
        kind == .newest
          ? "same compact revision then hashes must match" : "failed compaction hash check",
        own[0], own[1], own[2], ("follower-hash", String(other)),
        ("follower-peer-id", Handshake.text(member.rawValue)))
    }
  }
}

// MARK: Being asked

extension PeerThread {
  /// etcd: `hashKVHandler`.
  mutating func askHash(_ link: Link, _ request: Request) throws(PeerRefusal) {
    if let cluster = request.header("x-etcd-cluster-id"), !cluster.isEmpty,
      cluster != handshake.clusterText
    {
      throw .clusterMismatch
    }
    ask(link, .hash, .hashKV(revision: try HashExchange.revision(request.body)))
  }

  func hashAnswer(_ item: Completion, _ batch: CompletionBatch) -> PeerAnswer {
    switch item.failure {
    case .compacted: return PeerAnswer(HashExchange.compacted)
    case .futureRevision: return PeerAnswer(HashExchange.future)
    case let failure?: return PeerAnswer(400, error: failure.text)
    case nil:
      guard let hash = StoreHash(item, batch) else {
        return PeerAnswer(500, error: "the hash cannot be read")
      }
      let current = shared.board.withLock { $0.status.revision }
      return PeerAnswer(200, "application/json", HashExchange.answer(hash, current: current))
    }
  }
}

extension StoreHash {
  /// Of a HashKVResponse.
  init?(_ item: Completion, _ batch: CompletionBatch) {
    guard item.failure == nil,
      let numbers = try? Numbers(of: batch.arena.rawSpan.extracting(item.payload))
    else { return nil }
    self.init(
      hash: UInt32(truncatingIfNeeded: numbers[2]), revision: numbers.signed(4),
      compactRevision: numbers.signed(3))
  }
}
