internal import API
internal import Basics
internal import Membership
internal import Raft
internal import Services

/// Runs the cluster: compacts, compares hashes, moves leadership, adds, promotes, removes and
/// replaces members.
final class Operator: Client {
  private enum Step {
    case compacting, hashing, adding, promoting, removing, moving
  }

  private var step = Step.hashing
  private var call: UnaryCall?
  /// Members that are still to be asked for the hash of a revision.
  private var toHash: [Host] = []
  private var hashRevision: Int64 = 0
  private var nextURL = 100

  override func act() {
    if let open = call {
      world.send(.cancel(open.id), to: open.host, from: self, open.id)
      call = nil
      toHash = []
    }
    if world.isQuiet { return hashAll() }
    choose()
  }

  private func rest() { wake(after: 20_000_000 + UInt64(world.random.next(below: 400_000_000))) }

  private func send(_ method: Method, _ request: [UInt8], to host: Host) {
    self.host = host
    call = UnaryCall(
      id: call(method, request, line: 0, timeout: nil), host: host, sentAt: world.now)
    wake(after: 3_000_000_000)
  }

  private func choose() {
    if let lost = world.hosts.first(where: { $0.isLost && $0.isMember }) {
      return remove(lost)
    }
    if let learner = world.hosts.first(where: { $0.isLearner && $0.isMember && $0.state == .up }),
      chance(1, in: 2)
    {
      return promote(learner)
    }
    let faults = world.options.faults
    let weights = [
      2, faults.compaction, world.isHealed ? 0 : faults.membership,
      world.isHealed ? 0 : faults.transfer,
    ]
    var pick = world.random.next(below: weights.reduce(0, +))
    var at = 0
    while pick >= weights[at] {
      pick -= weights[at]
      at += 1
    }
    switch at {
    case 1: compact()
    case 2: changeMembers()
    case 3: move()
    default: hashAll()
    }
  }

  // MARK: The store

  private func compact() {
    step = .compacting
    let known = world.checks.linearizability.known
    var request: [UInt8] = []
    request.appendField(1, max(1, known - Int64(world.random.next(below: 10))))
    request.appendField(2, chance(1, in: 2))
    moveOn()
    send(.compact, request, to: host)
  }

  private func hashAll() {
    step = .hashing
    let known = world.checks.linearizability.known
    hashRevision = world.isQuiet ? world.checks.ledger.last : max(1, known)
    toHash = world.hosts.filter { $0.state == .up && !$0.isLearner }
    hashNext()
  }

  private func hashNext() {
    guard let next = toHash.popLast() else { return rest() }
    var request: [UInt8] = []
    request.appendField(1, hashRevision)
    send(.hashKV, request, to: next)
  }

  // MARK: Members

  private var voters: [Host] { world.hosts.filter { $0.isMember && !$0.isLearner } }

  private func move() {
    guard let leader = world.leader else { return rest() }
    step = .moving
    let others = voters.filter { $0 !== leader && $0.state == .up }
    guard !others.isEmpty else { return rest() }
    var request: [UInt8] = []
    request.appendField(1, others[world.random.next(below: others.count)].id.rawValue)
    send(.moveLeader, request, to: leader)
  }

  private func changeMembers() {
    // One change at a time, and only on a cluster that can bear it.
    guard world.hosts.allSatisfy({ !$0.isMember || $0.state == .up }),
      world.hosts.allSatisfy({ !$0.isLearner || !$0.isMember })
    else { return rest() }
    if voters.count > 5 || voters.count > 2 && chance(1, in: 2) {
      remove(voters[world.random.next(below: voters.count)])
    } else {
      add(asLearner: chance(2, in: 3))
    }
  }

  private func add(asLearner: Bool) {
    step = .adding
    nextURL += 1
    var request: [UInt8] = []
    request.appendMessage(1, [UInt8](Simulation.peerURL(nextURL).utf8).rawSpan)
    request.appendField(2, asLearner)
    moveOn()
    send(.memberAdd, request, to: host)
  }

  private func promote(_ learner: Host) {
    guard let leader = world.leader else { return rest() }
    step = .promoting
    var request: [UInt8] = []
    request.appendField(1, learner.id.rawValue)
    send(.memberPromote, request, to: leader)
  }

  private func remove(_ host: Host) {
    step = .removing
    var request: [UInt8] = []
    request.appendField(1, host.id.rawValue)
    moveOn()
    if self.host === host { moveOn() }
    send(.memberRemove, request, to: self.host)
  }

  // MARK: Answers

  override func take(_ event: ClientEvent) {
    guard let ending = call?.take(event) else { return }
    call = nil
    guard case .answer(let response) = ending else {
      if step == .hashing, !toHash.isEmpty { return hashNext() }
      toHash = []
      return rest()
    }
    if step == .hashing {
      let hash = UInt32(truncatingIfNeeded: numberField(2, in: response))
      world.checks.expect(
        "equal hashes",
        world.checks.hashes.answered(
          hashRevision, compact: numberField(3, in: response), hash: hash, of: host.number,
          isFinal: world.isQuiet))
      return hashNext()
    }
    rest()
  }
}
