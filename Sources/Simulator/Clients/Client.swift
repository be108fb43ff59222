internal import API
internal import Basics
internal import Raft
internal import Replica
internal import Services

/// How a call with one answer ended.
enum Ending {
  case answer([UInt8])
  case failure(Failure)
  /// The connection broke, the client gave up, or the server never had it.
  case lost(wasSent: Bool)

  /// In a word, for the trace.
  var text: String {
    switch self {
    case .answer(let bytes): "revision \(headerRevision(bytes))"
    case .failure(let failure): failure.text
    case .lost(let wasSent): wasSent ? "lost" : "not sent"
    }
  }
}

/// Somebody outside: speaks to one member at a time, one call on each of its lines.
class Client {
  /// Calls of a client that may be open at once.
  static let lines = 4

  unowned let world: Simulation
  let number: Int
  var host: Host
  /// Counts the settings of the one timer, so that an older one is void.
  private(set) var timer: UInt64 = 0
  private var generation: UInt64 = 0

  init(world: Simulation, number: Int) {
    self.world = world
    self.number = number
    host = world.hosts[world.random.next(below: world.hosts.count)]
  }

  /// The timer is due.
  func act() {}

  func take(_ event: ClientEvent) {}

  /// The faults are over: what is to happen from here on has to happen soon.
  func healed() {}

  /// What is still wrong at the end of a healed run; nil when nothing is.
  func unfinished() -> String? { nil }

  final func wake(after delay: UInt64) {
    timer += 1
    world.queue.add(.client(number, timer: timer), at: world.now + delay)
  }

  final func fires(_ timer: UInt64) { if timer == self.timer { act() } }

  /// Goes to another member, if there is one.
  final func moveOn() {
    let choices = world.hosts.filter { $0.state != .gone && !$0.isLearner }
    if !choices.isEmpty { host = choices[world.random.next(below: choices.count)] }
  }

  final func open(
    _ method: Method, line: Int, timeout: UInt64?, needsLeader: Bool = false
  ) -> CallID {
    generation += 1
    let id = CallID(generation << 32 | UInt64(number * Client.lines + line))
    world.send(
      .open(id, method, timeout: timeout, needsLeader: needsLeader), to: host, from: self, id)
    return id
  }

  /// A call with one request.
  final func call(
    _ method: Method, _ request: [UInt8], line: Int, timeout: UInt64?
  ) -> CallID {
    let id = open(method, line: line, timeout: timeout)
    world.send(.message(id, request), to: host, from: self, id)
    world.send(.halfClose(id), to: host, from: self, id)
    return id
  }

  final func chance(_ numerator: Int, in denominator: Int) -> Bool {
    world.random.chance(numerator, in: denominator)
  }
}

/// A call with one answer, on its way.
struct UnaryCall {
  var id: CallID
  var host: Host
  var sentAt: UInt64
  var answer: [UInt8]?

  /// Takes an event; how the call ended, once it has.
  mutating func take(_ event: ClientEvent) -> Ending? {
    switch event {
    case .message(let id, let bytes) where id == self.id: answer = bytes
    case .finished(let id, let failure) where id == self.id:
      if let failure { return .failure(failure) }
      return answer.map(Ending.answer) ?? .lost(wasSent: true)
    case .lost(let id, let wasSent) where id == self.id: return .lost(wasSent: wasSent)
    default: break
    }
    return nil
  }
}

extension Failure {
  /// Whether the request it answers was certainly not proposed, or applied without effect.
  var meansNothingDone: Bool {
    switch self {
    case .timedOut, .timedOutByLeader, .leaderChanged, .stopped, .deadlineExceeded: false
    default: code != .cancelled && code != .unavailable || self == .noLeader
    }
  }
}

/// The number of one field of a message; 0 when it is not there.
func numberField(_ field: Int, in bytes: [UInt8]) -> Int64 {
  var reader = ProtoReader(bytes.rawSpan)
  var value: Int64 = 0
  while let tag = try? reader.nextTag() {
    if tag.field == field, tag.wire == .varint, let found = try? reader.int64(tag) {
      value = found
    } else if (try? reader.skip(tag)) == nil {
      break
    }
  }
  return value
}

/// The bytes of the last of one field in a message; nil when it is not there.
func bytesField(_ field: Int, in message: [UInt8]) -> [UInt8]? {
  let span = message.rawSpan
  var reader = ProtoReader(span)
  var found: [UInt8]?
  while let tag = try? reader.nextTag() {
    if tag.field == field, tag.wire == .lengthDelimited, let slice = try? reader.bytes(tag) {
      found = span.extracting(slice).copied()
    } else if (try? reader.skip(tag)) == nil {
      break
    }
  }
  return found
}

/// The revision in a response's header.
func headerRevision(_ response: [UInt8]) -> Int64 {
  bytesField(1, in: response).map { numberField(3, in: $0) } ?? 0
}
