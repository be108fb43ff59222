internal import API
internal import Basics
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// A question for the leader, and how long it may go on being asked.
struct Waiting {
  var item: Forward
  var deadline: UInt64
  /// Not before this.
  var at: UInt64
}

/// What a follower asks the leader for its clients. etcd: lease/leasehttp, `promoteMemberHTTP`.
extension PeerThread {
  mutating func take(_ item: Forward) {
    let deadline = now + settings.forwardNanoseconds
    retry(Waiting(item: item, deadline: deadline, at: 0))
  }

  /// A question that has had no answer waits for its next turn; nobody waits for a late one.
  mutating func retry(_ waiting: Waiting) {
    guard now < waiting.deadline, self.waiting.count < Limits.forwardsMax else { return }
    var next = waiting
    if waiting.at != 0 { next.at = now + Limits.forwardRetryNanoseconds }
    self.waiting.append(next)
  }

  /// Asks the leader what waits; this member itself, should it lead by now.
  mutating func forward() {
    guard !waiting.isEmpty else { return }
    let leader = shared.board.withLock { $0.status.leader }
    waiting.removeAll { now >= $0.deadline }
    guard leader != .none else { return }
    let due = waiting.filter { $0.at <= now }
    waiting.removeAll { $0.at <= now }
    if leader == handshake.member {
      shared.raft.post(.questions(due.map(\.item.query)))
      return
    }
    guard let remote = remote(leader) else {
      for item in due { retry(item) }
      return
    }
    for item in due {
      var item = item
      item.at = max(item.at, 1)
      ask(remote, .forward(item), request(item.item), PeerLimits.answerTimeout)
    }
  }

  private func request(_ item: Forward) -> PeerRequest {
    var body: [UInt8] = []
    switch item.kind {
    case .keepAlive(let lease):
      body.appendField(1, lease.rawValue)
      return PeerRequest(
        "POST", "/leases", headers: [], body: .bytes(body, type: "application/protobuf"))
    case .timeToLive(let lease, let withKeys):
      var inner: [UInt8] = []
      inner.appendField(1, lease.rawValue)
      inner.appendField(2, withKeys)
      body.appendField(1, inner.rawSpan)
      return PeerRequest(
        "POST", "/leases/internal", headers: [],
        body: .bytes(body, type: "application/protobuf"))
    case .promote(let id):
      return PeerRequest(
        "POST", "/members/promote/\(id.rawValue)", headers: [],
        body: .bytes([], type: "application/json"))
    }
  }

  /// Makes the client's answer of the leader's.
  mutating func answered(_ waiting: Waiting, _ status: Int, _ body: [UInt8]) {
    let id = waiting.item.id
    var batch = CompletionBatch()
    do throws(Failure) {
      var response = header
      switch waiting.item.kind {
      case .keepAlive(let lease):
        guard try renewed(status, body, lease, into: &response) else { return retry(waiting) }
      case .timeToLive(let lease, _):
        guard try remaining(status, body, lease, into: &response) else { return retry(waiting) }
      case .promote:
        if status == PeerTexts.notLeaderStatus { return retry(waiting) }
        try promoted(status, body, into: &response)
      }
      batch.append(id, response: response.rawSpan)
    } catch {
      batch.append(id, failure: error)
    }
    guard let loop = RequestIDs.loop(of: id, member: handshake.member),
      loop < shared.loops.count
    else { return }
    shared.loops[loop].box.post(.completions(batch))
  }

  private var header: [UInt8] {
    let status = shared.board.withLock { $0.status }
    var bytes: [UInt8] = []
    bytes.appendHeader(
      ResponseHeaderView(
        clusterID: status.cluster, memberID: status.member, revision: status.revision,
        raftTerm: status.term))
    return bytes
  }

  /// False: ask again, perhaps of another leader.
  private func renewed(
    _ status: Int, _ body: [UInt8], _ lease: LeaseID, into response: inout [UInt8]
  ) throws(Failure) -> Bool {
    response.appendField(2, lease.rawValue)
    if status == 404, isLeaseGone(body) { return true }
    guard status == 200, let numbers = try? Numbers(of: body.rawSpan),
      numbers.signed(2) == lease.rawValue
    else { return false }
    response.appendField(3, numbers.signed(3))
    return true
  }

  /// Anybody who listens where the leader did may say 404.
  private func isLeaseGone(_ body: [UInt8]) -> Bool {
    String(decoding: body, as: UTF8.self).contains(PeerTexts.leaseNotFound)
  }

  private func remaining(
    _ status: Int, _ body: [UInt8], _ lease: LeaseID, into response: inout [UInt8]
  ) throws(Failure) -> Bool {
    if status == 404, isLeaseGone(body) {
      response.appendField(2, lease.rawValue)
      response.appendField(3, -1 as Int64)
      return true
    }
    guard status == 200 else { return false }
    let bytes = body.rawSpan
    do {
      var outer = ProtoReader(bytes)
      while let tag = try outer.nextTag() {
        guard tag.field == 1 else {
          try outer.skip(tag)
          continue
        }
        var inner = ProtoReader(bytes, in: try outer.bytes(tag))
        while let tag = try inner.nextTag() {
          let from = tag.offset
          try inner.skip(tag)
          // All but the header, which is this member's own.
          if tag.field != 1 { response.append(contentsOf: bytes.extracting(from..<inner.offset)) }
        }
        return true
      }
    } catch {
      return false
    }
    return false
  }

  private func promoted(
    _ status: Int, _ body: [UInt8], into response: inout [UInt8]
  ) throws(Failure) {
    let text = String(decoding: body, as: UTF8.self)
    switch status {
    case 200:
      guard let json = try? JSON.parse(body), case .array(let items) = json else { break }
      for item in items {
        guard let member = try? Membership.Member(item) else { continue }
        response.appendField(2, member.message.rawSpan)
      }
      return
    case 404: throw .memberNotFound
    case 412 where text.contains(PeerTexts.learnerNotReady): throw .learnerNotReady
    case 412 where text.contains(PeerTexts.notLearner): throw .memberNotLearner
    case 408: throw .timedOut
    default: break
    }
    throw Failure(.unknown, "member promote: unknown error(\(text))")
  }
}
