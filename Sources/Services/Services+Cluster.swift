internal import API
internal import Basics
internal import MVCC
internal import Membership
internal import Replica

extension Services {
  mutating func receiveCluster(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    let texts = try Texts(message)
    let numbers = try Numbers(whole: message)
    switch method {
    case .memberList:
      if numbers[1] != 0 {
        try read(id, .query(.members), [], isSerializable: false)
      } else {
        try ask(id, .members, out: &out)
      }
    case .memberAdd:
      let urls: [String]
      do { urls = try checkedURLs(texts.all(1)) } catch { throw .badMemberURLs }
      let node = memberID(
        peerURLs: urls, token: "", addedAt: status.unixSeconds, digest: digest)
      let member = Membership.Member(
        id: node, name: "", peerURLs: urls, clientURLs: [], isLearner: numbers[2] != 0)
      try change(id, .add(member), out: &out)
    case .memberRemove: try change(id, .remove(NodeID(numbers[1])), out: &out)
    case .memberUpdate:
      let member = Membership.Member(
        id: NodeID(numbers[1]), name: "", peerURLs: texts.all(2), clientURLs: [],
        isLearner: false)
      try change(id, .update(member), out: &out)
    default:
      // Only the leader knows how far a learner has come.
      let node = NodeID(numbers[1])
      guard status.isLeader else {
        out.forwards.append(Forward(id: try wait(id), kind: .promote(node)))
        return
      }
      // One of whom Raft has not told yet is not ready, if there is such a member.
      let isReady = status.progress.first { $0.member == node }?.isReady
      if isReady == false {
        tally.learnersNotReady += 1
        throw .learnerNotReady
      }
      try ask(id, .change(.promote(node), isHealthy: isReady != nil), out: &out)
    }
  }

  private mutating func change(
    _ id: CallID, _ change: MemberChange, out: inout Outbox
  ) throws(Failure) {
    try ask(id, .change(change, isHealthy: isHealthy(for: change)), out: &out)
  }

  /// Whether so many members have been reachable for a while that the change keeps a quorum of
  /// those. etcd: `mayAddMember`, `mayRemoveMember`.
  private func isHealthy(for change: MemberChange) -> Bool {
    let now = status.now
    let active = status.voters.count { id in
      id == status.member
        || status.activeSince[id].map { $0 &+ limits.healthInterval <= now } ?? false
    }
    switch change {
    case .add: return active == status.voters.count
    case .remove(let id):
      guard status.activeSince[id] != nil, status.voters.contains(id) else { return true }
      return active - 1 >= 1 + (status.voters.count - 1) / 2
    case .promote, .update: return true
    }
  }
}

extension Services {
  mutating func receiveMaintenance(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    let texts = try Texts(message)
    let numbers = try Numbers(whole: message)
    switch method {
    case .alarm: try propose(id, .alarm, message, out: &out)
    case .status:
      let response = statusResponse()
      answer(id, response.rawSpan, out: &out)
    case .defragment: try ask(id, .defragment, out: &out)
    case .hash: try ask(id, .hash, out: &out)
    case .hashKV: try ask(id, .hashKV(revision: numbers.signed(1)), out: &out)
    case .moveLeader:
      guard status.isLeader else { throw .notLeader }
      let target = NodeID(numbers[1])
      calls.with(id) { $0.transferee = target }
      transfers.append(id)
      try ask(id, .moveLeader(to: target), out: &out)
    case .downgrade:
      let kind: Query.Kind =
        switch numbers[1] {
        case 0: .validateDowngrade(texts.first(2))
        case 1: .enableDowngrade(texts.first(2))
        case 2: .cancelDowngrade
        default: throw .unknownMethod
        }
      try read(id, .query(kind), [], isSerializable: false)
    default: out.snapshots.append(id)
    }
  }

  private func statusResponse() -> [UInt8] {
    var response: [UInt8] = []
    response.appendHeader(header)
    response.appendText(2, status.version)
    response.appendField(3, Int64(status.databaseBytes))
    response.appendField(4, status.leader.rawValue)
    response.appendField(5, status.commitIndex.rawValue)
    response.appendField(6, status.term.rawValue)
    response.appendField(7, status.appliedIndex.rawValue)
    if status.leader == .none { response.appendText(8, Failure.noLeader.text) }
    for alarm in status.alarms { response.appendText(8, Alarms.text(alarm)) }
    response.appendField(9, Int64(status.databaseBytesInUse))
    response.appendField(10, status.isLearner)
    return response
  }
}
