internal import API
internal import Basics
internal import HTTP1
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// A request of another member that waits for the apply thread.
struct Question {
  enum Kind {
    case renew
    case timeToLive
    case hash
    /// This member's own, for a comparison.
    case ownHash
    case promote
  }
  var token: UInt64
  var kind: Kind
  /// Given up then: the proposal that some become may be lost. Hashes take as long as they take.
  var deadline: UInt64
}

/// What other members ask that only the apply thread can answer.
extension PeerThread {
  mutating func ask(_ link: Link, _ question: Question.Kind, _ kind: Query.Kind) {
    let query = Query(id: ids.next(), kind: kind)
    let isHash = question == .hash || question == .ownHash
    questions[query.id] = Question(
      token: link.token, kind: question, deadline: isHash ? .max : now + Limits.questionPatience)
    link.isAsking = true
    if query.waitsForCommitted {
      shared.raft.post(.questions([query]))
    } else {
      shared.apply.post(.queries([query]))
    }
  }

  /// etcd: lease/leasehttp.
  mutating func askLease(_ link: Link, _ request: Request) throws(PeerRefusal) {
    let malformed = PeerRefusal(400, "error unmarshalling request")
    let bytes = request.body.rawSpan
    do {
      if request.path == "/leases" {
        let numbers = try Numbers(of: bytes)
        ask(link, .renew, .keepAlive(LeaseID(numbers.signed(1))))
        return
      }
      var reader = ProtoReader(bytes)
      while let tag = try reader.nextTag() {
        guard tag.field == 1 else {
          try reader.skip(tag)
          continue
        }
        let numbers = try Numbers(bytes, in: try reader.bytes(tag))
        ask(
          link, .timeToLive,
          .timeToLive(LeaseID(numbers.signed(1)), withKeys: numbers[2] != 0))
        return
      }
    } catch {
      throw malformed
    }
    throw malformed
  }

  mutating func askPromotion(_ link: Link, _ text: Substring) {
    guard let number = UInt64(text) else {
      return reply(link, PeerAnswer(404, error: "member \(text) not found in cluster"))
    }
    let id = NodeID(number)
    let status = shared.board.withLock { $0.status }
    guard status.isLeader else {
      return reply(link, PeerAnswer(PeerTexts.notLeaderStatus, error: "not leader"))
    }
    let isReady = status.progress.first { $0.member == id }?.isReady ?? false
    ask(link, .promote, .change(.promote(id), isHealthy: isReady))
  }

  /// Hands the apply thread's answers on.
  mutating func answer(_ batch: CompletionBatch) {
    for item in batch.items {
      guard let question = questions.removeValue(forKey: item.id) else { continue }
      if question.kind == .ownHash { hashed(item, batch) }
      guard let link = links[question.token] else { continue }
      link.isAsking = false
      if question.kind == .hash {
        reply(link, hashAnswer(item, batch))
      } else if let failure = item.failure {
        reply(link, PeerAnswer(question.kind, failure))
      } else {
        let payload = batch.arena.rawSpan.extracting(item.payload).copied()
        reply(link, answer(question.kind, payload))
      }
      serve(link)
    }
  }

  /// Answers questions that nobody else will answer any more.
  mutating func giveUpQuestions() {
    for (id, question) in questions where question.deadline <= now {
      questions[id] = nil
      guard let link = links[question.token] else { continue }
      link.isAsking = false
      reply(link, PeerAnswer(question.kind, .timedOut))
      serve(link)
    }
  }

  private func answer(_ kind: Question.Kind, _ payload: [UInt8]) -> PeerAnswer {
    switch kind {
    case .renew:
      // A lease that is gone is answered with no TTL to clients, with 404 to members.
      guard let numbers = try? Numbers(of: payload.rawSpan), numbers.signed(3) > 0 else {
        return PeerAnswer(404, error: PeerTexts.leaseNotFound)
      }
      return PeerAnswer(200, "application/protobuf", payload)
    case .timeToLive:
      guard let numbers = try? Numbers(of: payload.rawSpan), numbers.signed(4) > 0 else {
        return PeerAnswer(404, error: PeerTexts.leaseNotFound)
      }
      var bytes: [UInt8] = []
      bytes.appendField(1, payload.rawSpan)
      return PeerAnswer(200, "application/protobuf", bytes)
    case .promote, .hash, .ownHash:
      return PeerAnswer(
        200, "application/json", JSON.array(members.members.map(\.json)).encoded + [10])
    }
  }
}

/// Texts by which members tell refusals apart.
enum PeerTexts {
  static let leaseNotFound = "lease not found"
  static let notPrimary = "not a primary lessor"
  static let learnerNotReady = Failure.learnerNotReady.text
  /// To be asked again, of the new leader.
  static let notLeaderStatus = 503
  static let notLearner = "membership: can only promote a learner member"
}

extension PeerAnswer {
  init(_ kind: Question.Kind, _ failure: Failure) {
    switch failure {
    case .leaseNotFound: self.init(404, error: PeerTexts.leaseNotFound)
    case .memberNotFound: self.init(404, error: "membership: ID not found")
    case .memberNotLearner: self.init(412, error: PeerTexts.notLearner)
    case .learnerNotReady: self.init(412, error: PeerTexts.learnerNotReady)
    default: self.init(kind == .promote ? 500 : 400, error: failure.text)
    }
  }
}
