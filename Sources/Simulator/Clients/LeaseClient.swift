internal import API
internal import Basics
internal import Raft
internal import Replica
internal import Services

/// Holds leases: grants, prolongs, attaches a key, takes a lock under it, and lets it go or run
/// out.
final class LeaseClient: Client {
  private enum Step {
    case granting, attaching, locking, holding, unlocking, revoking
  }

  private var step = Step.granting
  private var call: UnaryCall?
  private var lease = LeaseID.none
  private var ttl: Int64 = 0
  private var promisedUntil: UInt64 = 0
  private var lockKey: [UInt8] = []
  private var isHolding = false
  /// How many more times it prolongs the lease.
  private var renewals = 0
  /// The stream of keep-alives, and when each that waits for its answer was sent.
  private var stream: CallID?
  private var streamHost: Host?
  private var sent: [UInt64] = []

  private static let lockName: [UInt8] = [UInt8]("lock".utf8)

  override func act() {
    if let open = call {
      if step == .locking, world.now < promisedUntil, !world.isQuiet {
        keepAlive()
        return wake(after: UInt64(ttl) * 300_000_000)
      }
      world.send(.cancel(open.id), to: open.host, from: self, open.id)
      call = nil
      ended(.lost(wasSent: true))
      return
    }
    guard !world.isQuiet else { return }
    switch step {
    case .granting: grant()
    case .holding: hold()
    default: wake(after: 10_000_000)
    }
  }

  private func send(_ method: Method, _ request: [UInt8], patience: UInt64) {
    call = UnaryCall(
      id: call(method, request, line: 0, timeout: nil), host: host, sentAt: world.now)
    wake(after: patience)
  }

  private func grant() {
    closeStream()
    step = .granting
    isHolding = false
    var request: [UInt8] = []
    request.appendField(1, 1 + Int64(world.random.next(below: 4)))
    send(.leaseGrant, request, patience: 5_000_000_000)
  }

  private func attach() {
    step = .attaching
    var request: [UInt8] = []
    let put = Request.put(
      key: [UInt8]("l/\(number)".utf8), value: [UInt8]("held".utf8), lease: lease, previous: false)
    put.encode(into: &request)
    send(.put, request, patience: 2_000_000_000)
  }

  private func lock() {
    step = .locking
    var request: [UInt8] = []
    request.appendField(1, LeaseClient.lockName.rawSpan)
    request.appendField(2, lease.rawValue)
    send(.lock, request, patience: UInt64(ttl) * 300_000_000)
  }

  private func hold() {
    guard renewals > 0, promisedUntil > world.now else { return letGo() }
    renewals -= 1
    keepAlive()
    wake(after: UInt64(ttl) * 300_000_000)
  }

  private func letGo() {
    closeStream()
    if isHolding, chance(1, in: 2) {
      step = .unlocking
      isHolding = false
      world.checks.locks.released(by: number)
      var request: [UInt8] = []
      request.appendField(1, lockKey.rawSpan)
      send(.unlock, request, patience: 2_000_000_000)
    } else if chance(1, in: 3) {
      step = .revoking
      world.checks.locks.released(by: number)
      world.checks.leases.revoking(lease)
      var request: [UInt8] = []
      request.appendField(1, lease.rawValue)
      send(.leaseRevoke, request, patience: 2_000_000_000)
    } else {
      // The lease runs out by itself; so does the lock.
      step = .granting
      wake(after: 1 + UInt64(world.random.next(below: 500_000_000)))
    }
  }

  // MARK: Keep-alives

  private func keepAlive() {
    if stream == nil {
      if let leader = world.leader, chance(1, in: 2) { host = leader }
      stream = open(.leaseKeepAlive, line: 1, timeout: nil)
      streamHost = host
    }
    guard let stream, let streamHost else { return }
    var request: [UInt8] = []
    request.appendField(1, lease.rawValue)
    world.send(.message(stream, request), to: streamHost, from: self, stream)
    sent.append(world.now)
  }

  private func closeStream() {
    if let stream, let streamHost {
      world.send(.cancel(stream), to: streamHost, from: self, stream)
    }
    stream = nil
    sent = []
  }

  private func renewed(_ response: [UInt8]) {
    guard !sent.isEmpty else { return }
    let sentAt = sent.removeFirst()
    guard LeaseID(numberField(2, in: response)) == lease else { return }
    let ttl = numberField(3, in: response)
    guard ttl > 0 else {
      renewals = 0
      return
    }
    promise(ttl, sentAt: sentAt)
    if isHolding { world.checks.locks.extended(by: self.number, until: promisedUntil) }
  }

  private func promise(_ ttl: Int64, sentAt: UInt64) {
    let drift = world.options.clockDrift
    world.checks.expectOfLeases(
      "lease never early",
      world.checks.leases.promised(lease, ttl: ttl, sentAt: sentAt, drift: drift))
    let whole = UInt64(ttl) * 1_000_000_000
    promisedUntil = max(promisedUntil, sentAt + whole - whole / 1_000_000 * UInt64(2 * drift))
  }

  // MARK: Answers

  override func take(_ event: ClientEvent) {
    switch event {
    case .message(let id, let bytes) where id == stream: renewed(bytes)
    case .finished(let id, _) where id == stream: streamEnded()
    case .lost(let id, _) where id == stream: streamEnded()
    default:
      if let ending = call?.take(event) {
        let sentAt = call?.sentAt ?? 0
        call = nil
        ended(ending, sentAt: sentAt)
      }
    }
  }

  private func streamEnded() {
    stream = nil
    sent = []
    moveOn()
  }

  private func ended(_ ending: Ending, sentAt: UInt64 = 0) {
    guard case .answer(let response) = ending else {
      if step == .granting || step == .attaching { step = .granting }
      if step == .locking { renewals = 0 }
      if step == .locking || step == .unlocking || step == .revoking { step = .granting }
      moveOn()
      return wake(after: 1 + UInt64(world.random.next(below: 300_000_000)))
    }
    switch step {
    case .granting:
      lease = LeaseID(numberField(2, in: response))
      ttl = numberField(3, in: response)
      promisedUntil = 0
      renewals = world.random.next(below: 8)
      promise(ttl, sentAt: sentAt)
      attach()
    case .attaching: if chance(2, in: 3) { lock() } else { beginHolding() }
    case .locking:
      lockKey = bytesField(2, in: response) ?? []
      isHolding = true
      world.checks.expectOfLeases(
        "lock exclusion",
        world.checks.locks.acquired(
          LeaseClient.lockName, by: number, until: promisedUntil, now: world.now))
      beginHolding()
    case .unlocking, .revoking, .holding:
      step = .granting
      wake(after: 1 + UInt64(world.random.next(below: 500_000_000)))
    }
  }

  private func beginHolding() {
    step = .holding
    wake(after: 1 + UInt64(ttl) * 200_000_000)
  }
}
