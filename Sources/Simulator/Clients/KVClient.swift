internal import API
internal import Basics
internal import Services

/// Reads and writes a few keys in every way there is: put, get, delete, compare-and-swap, append
/// and transactions over several keys. Every answer is held against the model.
final class KVClient: Client {
  private var call: UnaryCall?
  private var request: Request?
  private var operation = 0
  /// The first half of a compare-and-swap or an append was this key's read.
  private var swap: (key: [UInt8], isAppend: Bool)?
  private(set) var answeredSinceHealed = 0

  /// Only asks, so that it never waits for a write and hears what a former leader has to say.
  private let isReader: Bool

  init(world: Simulation, number: Int, isReader: Bool) {
    self.isReader = isReader
    super.init(world: world, number: number)
  }

  static func key(_ number: Int) -> [UInt8] { [UInt8]("k/\(number)".utf8) }
  private static let valueBytesMax = 64

  override func act() {
    if let call {
      world.send(.cancel(call.id), to: call.host, from: self, call.id)
      end(.lost(wasSent: true))
    } else if !world.isQuiet {
      begin()
    }
  }

  override func healed() { answeredSinceHealed = 0 }

  private func randomKey() -> [UInt8] {
    KVClient.key(world.random.next(below: world.options.keys))
  }

  private func begin() {
    operation = world.checks.linearizability.begin()
    swap = nil
    let tag = Linearizability.tag(operation)
    let request: Request
    if isReader { return send(range(isSerializable: false)) }
    switch world.random.next(below: 100) {
    case 0..<28:
      request = .put(key: randomKey(), value: tag, lease: .none, previous: chance(1, in: 3))
    case 28..<46: request = range(isSerializable: false)
    case 46..<52: request = range(isSerializable: true)
    case 52..<57: request = past()
    case 57..<65:
      request =
        chance(1, in: 4)
        ? .delete(key: [UInt8]("k/".utf8), end: [UInt8]("k0".utf8))
        : .delete(key: randomKey(), end: [])
    case 65..<85:
      let key = randomKey()
      swap = (key, chance(1, in: 2))
      request = .range(key: key, end: [], revision: 0, isSerializable: chance(1, in: 4))
    default: request = transaction(tag)
    }
    send(request)
  }

  private func range(isSerializable: Bool) -> Request {
    chance(1, in: 3)
      ? .range(
        key: [UInt8]("k/".utf8), end: [UInt8]("k0".utf8), revision: 0,
        isSerializable: isSerializable)
      : .range(key: randomKey(), end: [], revision: 0, isSerializable: isSerializable)
  }

  private func past() -> Request {
    let known = world.checks.linearizability.known
    let back = Int64(world.random.next(below: 12))
    return .range(
      key: [UInt8]("k/".utf8), end: [0], revision: max(1, known - back), isSerializable: false)
  }

  private func transaction(_ tag: [UInt8]) -> Request {
    let first = world.random.next(below: world.options.keys)
    let second = (first + 1) % world.options.keys
    let (one, two) = (KVClient.key(first), KVClient.key(second))
    var success: [Request] = [
      .range(key: one, end: [], revision: 0, isSerializable: false),
      .put(key: one, value: tag, lease: .none, previous: true),
    ]
    if two != one {
      success.append(
        chance(1, in: 2)
          ? .put(key: two, value: tag, lease: .none, previous: false)
          : .delete(key: two, end: []))
      success.append(.range(key: two, end: [], revision: 0, isSerializable: false))
    }
    let compares = [
      Request.Compare(key: one, target: .version(Int64(world.random.next(below: 4)))),
      Request.Compare(key: two, target: .created(0)),
    ]
    let failure: [Request] =
      chance(1, in: 2)
      ? [.range(key: two, end: [], revision: 0, isSerializable: false)]
      : [.put(key: two, value: tag, lease: .none, previous: true)]
    return .txn(
      chance(1, in: 3) ? [] : [compares[world.random.next(below: 2)]], success: success,
      failure: failure)
  }

  private func send(_ request: Request) {
    self.request = request
    var bytes: [UInt8] = []
    request.encode(into: &bytes)
    let patience = 300_000_000 + UInt64(world.random.next(below: 8_000_000_000))
    call = UnaryCall(
      id: call(request.method, bytes, line: 0, timeout: chance(1, in: 2) ? patience : nil),
      host: host, sentAt: world.now)
    wake(after: patience + 100_000_000)
  }

  override func take(_ event: ClientEvent) {
    if let ending = call?.take(event) { end(ending) }
  }

  private func end(_ ending: Ending) {
    guard let request else { return }
    world.note("client \(number) \(request.method) at \(host.number): \(ending.text)")
    call = nil
    self.request = nil
    var next: Request?
    switch ending {
    case .answer(let bytes):
      if let answer = Answer(bytes.rawSpan, of: request) {
        answeredSinceHealed += 1
        let problem = world.checks.linearizability.answered(
          operation, request, answer, world.checks.ledger)
        world.checks.expect("linearizable", problem)
        next = swapped(answer)
      } else {
        world.violate("linearizable", "an answer cannot be read")
      }
    case .failure(let failure):
      if request.mayWrite, failure.meansNothingDone {
        world.checks.expect("linearizable", world.checks.linearizability.refused(operation))
      }
      if chance(1, in: 2) { moveOn() }
    case .lost(let wasSent):
      if request.mayWrite, !wasSent {
        world.checks.expect("linearizable", world.checks.linearizability.refused(operation))
      }
      moveOn()
    }
    if let next {
      operation = world.checks.linearizability.begin()
      swap = nil
      send(next)
    } else {
      if chance(1, in: isReader ? 10 : 40) { moveOn() }
      wake(after: 1 + UInt64(world.random.next(below: Int(world.options.thinkTime) * 2)))
    }
  }

  /// The second half of a compare-and-swap.
  private func swapped(_ answer: Answer) -> Request? {
    guard let swap else { return nil }
    var revision: Int64 = 0
    // The operation's own number is not known yet: `begin` numbers on.
    var value = Linearizability.tag(world.checks.linearizability.next)
    if let bytes = answer.keyValues.first, let view = try? KeyValueView(bytes.rawSpan) {
      revision = view.modRevision
      if swap.isAppend { value += bytes.rawSpan.extracting(view.value).copied() }
    }
    if value.count > KVClient.valueBytesMax {
      value.removeLast(value.count - KVClient.valueBytesMax)
    }
    return .txn(
      [Request.Compare(key: swap.key, target: .mod(revision))],
      success: [.put(key: swap.key, value: value, lease: .none, previous: false)],
      failure: [.range(key: swap.key, end: [], revision: 0, isSerializable: false)])
  }
}
