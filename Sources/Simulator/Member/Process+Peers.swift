internal import API
internal import Basics
internal import Membership
internal import Raft
internal import Replica
internal import Services

/// A question of one member's clients to the member that it takes for the leader.
struct Ask {
  var from: NodeID
  var to: NodeID
  /// The asking member's start, and the question's number within it.
  var run: Int
  var number: UInt64
  var item: Forward
}

enum Answered {
  case payload([UInt8])
  case failure(Failure)
}

enum PeerInput {
  case forwards([Forward])
  case asked(Ask)
  case answers(CompletionBatch)
  case answered(Ask, Answered)
}

struct PeerState {
  struct Waiting {
    var item: Forward
    var deadline: UInt64
    /// Not before this.
    var at: UInt64
  }

  var inbox: [PeerInput] = []
  /// Questions that are to be asked.
  var waiting: [Waiting] = []
  /// Questions under way: each is given up for lost at a time.
  var asked: [(number: UInt64, waiting: Waiting, lostAt: UInt64)] = []
  var nextNumber: UInt64 = 0
  /// What other members want to know, by the query that finds it out.
  var questions: [(id: UInt64, ask: Ask)] = []
  var ids: RequestIDs

  init(ids: RequestIDs) { self.ids = ids }
}

/// What Sources/Server/Peers/PeerThread+Forwards.swift does, and of PeerThread+Serving.swift the
/// leader's side of it.
extension Process {
  private static let retryTime: UInt64 = 50_000_000
  private static let answerTime: UInt64 = 7_000_000_000

  func turnPeers() {
    let inbox = peers.inbox
    peers.inbox.removeAll(keepingCapacity: true)
    for input in inbox {
      switch input {
      case .forwards(let items):
        for item in items {
          peers.waiting.append(
            PeerState.Waiting(item: item, deadline: now + world.options.requestTime, at: 0))
        }
      case .asked(let ask): take(ask)
      case .answers(let batch): answer(batch)
      case .answered(let ask, let answer): take(answer, to: ask)
      }
    }
    let lost = peers.asked.filter { $0.lostAt <= now }
    peers.asked.removeAll { $0.lostAt <= now }
    for item in lost { retry(item.waiting) }
    forward()
    let times = peers.waiting.map(\.at) + peers.asked.map(\.lostAt)
    if status.leader != .none, let next = times.min() { wake(.peers, at: host.trueTime(next)) }
  }

  private func retry(_ waiting: PeerState.Waiting) {
    var next = waiting
    next.at = now + Self.retryTime
    peers.waiting.append(next)
  }

  /// Asks the leader what waits; this member itself, should it lead by now.
  private func forward() {
    peers.waiting.removeAll { now >= $0.deadline }
    guard status.leader != .none else { return }
    let due = peers.waiting.filter { $0.at <= now }
    guard !due.isEmpty else { return }
    peers.waiting.removeAll { $0.at <= now }
    if status.leader == host.id { return post(.questions(due.map(\.item.query))) }
    for item in due {
      peers.nextNumber += 1
      peers.asked.append((peers.nextNumber, item, now + Self.answerTime))
      let ask = Ask(
        from: host.id, to: status.leader, run: run, number: peers.nextNumber, item: item.item)
      world.send(.ask(ask), from: ask.from, to: ask.to)
    }
  }

  /// Makes the client's answer of the leader's.
  private func take(_ answer: Answered, to ask: Ask) {
    guard let at = peers.asked.firstIndex(where: { $0.number == ask.number }) else { return }
    let waiting = peers.asked.remove(at: at).waiting
    var batch = CompletionBatch()
    switch (answer, ask.item.kind) {
    case (.payload(let bytes), _):
      batch.append(waiting.item.id, response: withOwnHeader(bytes).rawSpan)
    case (.failure(let failure), .promote): batch.append(waiting.item.id, failure: failure)
    case (.failure, _): return retry(waiting)
    }
    post(.completions(batch))
  }

  private func withOwnHeader(_ payload: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendHeader(
      ResponseHeaderView(
        clusterID: status.cluster, memberID: status.member, revision: status.revision,
        raftTerm: status.term))
    let span = payload.rawSpan
    var reader = ProtoReader(span)
    while let tag = try? reader.nextTag() {
      let from = tag.offset
      guard (try? reader.skip(tag)) != nil else { break }
      if tag.field != 1 { bytes.append(contentsOf: span.extracting(from..<reader.offset)) }
    }
    return bytes
  }

  // MARK: The leader's side

  private func take(_ ask: Ask) {
    var item = ask.item
    item.id = peers.ids.next()
    var query = item.query
    if case .promote(let id) = item.kind {
      let isReady = status.progress.first { $0.member == id }?.isReady ?? false
      query.kind = .change(.promote(id), isHealthy: status.isLeader && isReady)
    }
    peers.questions.append((query.id, ask))
    if query.waitsForCommitted { post(.questions([query])) } else { post(.queries([query])) }
  }

  private func answer(_ batch: CompletionBatch) {
    for item in batch.items {
      guard let at = peers.questions.firstIndex(where: { $0.id == item.id }) else { continue }
      let ask = peers.questions.remove(at: at).ask
      let payload = batch.arena.rawSpan.extracting(item.payload).copied()
      reply(item.failure.map(Answered.failure) ?? .payload(payload), to: ask)
    }
  }

  private func reply(_ answer: Answered, to ask: Ask) {
    world.send(.answer(ask, answer), from: ask.to, to: ask.from)
  }
}
