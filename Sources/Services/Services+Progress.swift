internal import Auth
public import Basics
internal import MVCC
public import Replica

extension Services {
  /// Takes the apply thread's answers.
  public mutating func completed(_ batch: borrowing CompletionBatch, out: inout Outbox) {
    for item in batch.items {
      guard let id = waits.take(item.id) ?? longWaits.take(item.id), let call = calls[id]
      else { continue }
      if call.hasWaiter {
        let response = batch.arena.rawSpan.extracting(item.payload)
        advance(id, failure: item.failure, response, out: &out)
        continue
      }
      if let failure = item.failure {
        finish(id, failure, out: &out)
        continue
      }
      if !call.questions.isEmpty, item.payload.isEmpty {
        leasePermitted(id, out: &out)
        continue
      }
      let response = batch.arena.rawSpan.extracting(item.payload)
      switch call.method {
      case .authenticate:
        loggedIn(id, response, authRevision: item.authRevision, out: &out)
      case .leaseKeepAlive:
        send(id, .leaseKeepAlive, response, out: &out)
        calls.with(id) { $0.outstanding -= 1 }
        if call.isHalfClosed, call.outstanding == 1 { finish(id, nil, out: &out) }
      case .moveLeader:
        out.transferee = call.transferee
        deadlines.insert(status.now &+ limits.requestTimeout, id)
      case .memberPromote:
        tally.learnersPromoted += 1
        answer(id, response, out: &out)
      default: answer(id, response, out: &out)
      }
    }
  }

  /// Takes the answer to `Outbox.readIndexTicket`: what was asked before it may be read once
  /// `index` has been applied. An answer to an older ticket is ignored.
  public mutating func readIndexReady(ticket: UInt64, index: LogIndex) {
    guard reads.ticket == ticket else { return }
    reads.ticket = nil
    reads.confirmed.append((index, reads.asked))
    reads.asked = []
  }

  /// Ends a wake: hands out what has become possible with the present status and asks for a read
  /// index for all reads that have come in.
  public mutating func flush(out: inout Outbox) {
    if status.leader != lastLeader { leaderChanged(out: &out) }
    while let first = reads.confirmed.first, first.index <= status.appliedIndex {
      reads.confirmed.removeFirst()
      for read in first.reads { ready(read, out: &out) }
    }
    admitEarly()
    if reads.ticket == nil, !reads.collecting.isEmpty {
      reads.asked = reads.collecting
      reads.collecting = []
      askReadIndex(out: &out)
    }
    for id in transfers where calls[id]?.transferee == status.leader {
      answer(id, RawSpan(), out: &out)
    }
    flushWatches(out: &out)
  }

  private mutating func askReadIndex(out: inout Outbox) {
    let ticket = ids.next()
    reads.ticket = ticket
    reads.askedAt = status.now
    out.readIndexTicket = ticket
  }

  /// A read may see what is applied now.
  private mutating func ready(_ read: Read, out: inout Outbox) {
    guard calls.contains(read.call) else { return }
    guard case .query(let kind) = read.kind else {
      makeReady(read)
      return
    }
    do throws(Failure) {
      // Whether a lease may be prolonged was found out before.
      if case .keepAlive = kind {
        try ask(read.call, kind, by: .none, out: &out)
      } else {
        try ask(read.call, kind, out: &out)
      }
    } catch {
      finish(read.call, error, out: &out)
    }
  }

  /// A read index that another leader may answer proves nothing: those who wait for it are told.
  private mutating func leaderChanged(out: inout Outbox) {
    lastLeader = status.leader
    leaderlessSince = status.leader == .none ? status.now : nil
    reads.ticket = nil
    let asked = reads.asked
    reads.asked = []
    for read in asked { fail(read.call, .leaderChanged, out: &out) }
  }

  /// Ends a call, or tells the course it is in.
  mutating func fail(_ id: CallID, _ failure: Failure, out: inout Outbox) {
    guard let call = calls[id] else { return }
    if call.hasWaiter {
      advance(id, failure: failure, RawSpan(), out: &out)
    } else {
      finish(id, failure, out: &out)
    }
  }

  /// Lets time pass: called a few times a second with the present `status`.
  public mutating func tick(out: inout Outbox) {
    if status.leader != lastLeader { leaderChanged(out: &out) }
    while let id = waits.expired(status.now) {
      tally.proposalsFailed += 1
      fail(id, .timedOut, out: &out)
    }
    while let id = passwordWaits.expired(status.now) { fail(id, .timedOut, out: &out) }
    while let id = deadlines.expired(status.now) { expire(id, out: &out) }
    expireReads(out: &out)
    if reads.ticket != nil, status.now &- reads.askedAt >= limits.readIndexRetryTime {
      tally.readIndexesRetried += 1
      askReadIndex(out: &out)
    }
    if let since = leaderlessSince {
      let patience = limits.leaderlessElectionsMax &* limits.electionTimeout
      if status.now &- since >= patience {
        let streams = leaderStreams
        for id in streams { finish(id, .noLeader, out: &out) }
      }
    }
    expireEarly(out: &out)
    reportTokens(out: &out)
    tickWatches()
  }

  private mutating func expire(_ id: CallID, out: inout Outbox) {
    guard let call = calls[id] else { return }
    if call.deadline <= status.now {
      finish(id, .deadlineExceeded, out: &out)
    } else if call.transferee != nil {
      finish(id, .transferTimedOut, out: &out)
    }
  }

  private mutating func expireReads(out: inout Outbox) {
    var late: [CallID] = []
    let now = status.now
    func sift(_ list: inout [Read]) {
      guard list.contains(where: { $0.deadline <= now }) else { return }
      for read in list where read.deadline <= now { late.append(read.call) }
      list.removeAll { $0.deadline <= now }
    }
    sift(&reads.collecting)
    sift(&reads.asked)
    sift(&reads.held)
    for index in reads.confirmed.indices { sift(&reads.confirmed[index].reads) }
    reads.confirmed.removeAll { $0.reads.isEmpty }
    if reads.asked.isEmpty { reads.ticket = nil }
    tally.readIndexesFailed += late.count
    for id in late { fail(id, .timedOut, out: &out) }
  }
}

extension Failure {
  static let transferTimedOut = Failure(
    .unknown, "etcdserver: request timed out, leader transfer took too long")
}
