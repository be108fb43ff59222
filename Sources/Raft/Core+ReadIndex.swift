internal import Basics

/// Reads that wait until a quorum has confirmed the leader. All that come between two outputs
/// form one round: one heartbeat carries its number, which is never used twice in a term, and an
/// answer to a round confirms all rounds before it.
struct ReadQueue {
  enum Origin {
    case local(UInt64)
    case remote(NodeID, [UInt8])
  }
  struct Read {
    var origin: Origin
    var index: LogIndex
    var round: UInt64
  }
  /// Came before this term committed anything: the commit index may be behind. Thesis §6.4.
  var early: [Origin] = []
  var waiting: [Read] = []
  /// The newest round that was sent out.
  var sentRound: UInt64 = 0

  var count: Int { early.count + waiting.count }
  var hasOpenRound: Bool { waiting.last.map { $0.round > sentRound } ?? false }
  /// What a heartbeat carries; empty when nothing waits.
  var context: [UInt8] { waiting.isEmpty ? [] : encode(context: sentRound) }
}

/// A context as etcd writes its own: eight bytes, the highest first.
private func encode(context: UInt64) -> [UInt8] {
  [UInt8](bigEndian: context)
}

private func decode(context: [UInt8]) -> UInt64? {
  context.count == 8 ? context.rawSpan.bigEndian() : nil
}

extension Core {
  /// Asks for an index that, once applied, makes a read linearizable; it comes in
  /// `Output.reads`, or never, when leadership changes or a message is lost. False when it
  /// cannot be asked now: no leader is known, or too many wait. A context is used once only.
  /// Thesis §6.4.
  public mutating func readIndex(context: UInt64) -> Bool {
    switch role {
    case .leader:
      guard reads.count < config.pendingReadsMax else { return false }
      enqueue(.local(context))
      return true
    case .follower where leader != .none:
      messages.append(
        Message(
          from: config.id, to: leader, term: .zero,
          body: .readIndex(context: encode(context: context))))
      return true
    case .follower, .candidate, .preCandidate:
      return false
    }
  }

  mutating func stepReadIndex(_ message: Message, _ context: [UInt8]) {
    switch role {
    case .leader:
      guard reads.count < config.pendingReadsMax else { return }
      enqueue(.remote(message.from, context))
    case .follower where leader != .none && message.from != leader:
      messages.append(
        Message(from: message.from, to: leader, term: .zero, body: .readIndex(context: context)))
    case .follower, .candidate, .preCandidate:
      break
    }
  }

  private mutating func enqueue(_ origin: ReadQueue.Origin) {
    guard log.term(at: log.commit) == term || config.sabotage.contains(.readsEarly) else {
      reads.early.append(origin)
      return
    }
    reads.waiting.append(
      ReadQueue.Read(origin: origin, index: log.commit, round: reads.sentRound + 1))
  }

  /// Called when the commit index moved in this term.
  mutating func admitEarlyReads() {
    guard !reads.early.isEmpty else { return }
    let early = reads.early
    reads.early = []
    for origin in early { enqueue(origin) }
  }

  /// Sends the open round out, unless this node alone is a quorum.
  mutating func closeReadRound() {
    guard reads.hasOpenRound else { return }
    reads.sentRound += 1
    releaseReads()
    if !reads.waiting.isEmpty { broadcastHeartbeat(context: reads.context) }
  }

  mutating func confirmReads(_ context: [UInt8], from peer: Int) {
    guard let round = decode(context: context), round <= reads.sentRound else { return }
    progress[peer].readRound = max(progress[peer].readRound, round)
    releaseReads()
  }

  mutating func releaseReads() {
    guard !reads.waiting.isEmpty else { return }
    let sent = reads.sentRound
    let confirmed = confState.quorumValue { id in
      id == config.id ? sent : position(id).map { progress[$0].readRound } ?? 0
    }
    var count = reads.waiting.firstIndex { $0.round > confirmed } ?? reads.waiting.count
    if count < reads.waiting.count, config.sabotage.contains(.readsUnconfirmed) {
      count = reads.waiting.count
    }
    for read in reads.waiting[..<count] {
      switch read.origin {
      case .local(let context):
        readyReads.append((context, read.index))
      case .remote(let node, let context):
        send(.readIndexResponse(index: read.index, context: context), to: node)
      }
    }
    reads.waiting.removeFirst(count)
  }

  /// A leader's answer to a read that this node had sent on.
  mutating func finishForwardedRead(index: LogIndex, context: [UInt8]) {
    guard let context = decode(context: context) else { return }
    readyReads.append((context, index))
  }
}
