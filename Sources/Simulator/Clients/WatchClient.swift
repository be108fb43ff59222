internal import API
internal import Basics
internal import MVCC
internal import Services

/// Watches a range from a revision on, over whatever happens to its member, and wants every
/// change once, in order, none missing. etcd: api guarantees of Watch.
final class WatchClient: Client {
  private var stream: CallID?
  private var streamHost: Host?
  private var isCreated = false
  private var key: [UInt8] = []
  private var end: [UInt8] = []
  private var wantsPrevious = false
  /// Changes before this revision were delivered.
  private var next: Int64 = 1
  private var isWritable = true
  private(set) var eventCount = 0

  override init(world: Simulation, number: Int) {
    super.init(world: world, number: number)
    if chance(1, in: 2) {
      key = [UInt8]("k/".utf8)
      end = [UInt8]("k0".utf8)
    } else {
      key = KVClient.key(0)
    }
    wantsPrevious = chance(1, in: 2)
  }

  override func act() {
    if stream == nil {
      open()
    } else if world.isHealed {
      if !isWritable { setWritable(true) }
    } else {
      switch world.random.next(below: 10) {
      case 0: close()
      case 1, 2: setWritable(!isWritable)
      case 3: askProgress()
      default: break
      }
    }
    wake(after: 50_000_000 + UInt64(world.random.next(below: 800_000_000)))
  }

  override func unfinished() -> String? {
    let last = world.checks.ledger.last
    guard next <= last, next > 0 else { return nil }
    let missing = world.checks.ledger.changes(from: next, to: last, key, end)
    return missing.isEmpty
      ? nil
      : "watcher \(number) still lacks \(missing.count) changes from revision \(next) on, "
        + (stream == nil ? "without a stream" : "from \(streamHost?.number ?? -1)")
        + (isCreated ? "" : ", not created") + (isWritable ? "" : ", not writable")
  }

  private func open() {
    let id = open(.watch, line: 0, timeout: nil, needsLeader: chance(1, in: 3))
    stream = id
    streamHost = host
    isCreated = false
    isWritable = true
    var create: [UInt8] = []
    create.appendField(1, key.rawSpan)
    create.appendField(2, end.rawSpan)
    create.appendField(3, next)
    create.appendField(4, true)
    create.appendField(6, wantsPrevious)
    var request: [UInt8] = []
    request.appendMessage(1, create.rawSpan)
    world.send(.message(id, request), to: host, from: self, id)
  }

  private func close() {
    guard let stream, let streamHost else { return }
    world.send(.cancel(stream), to: streamHost, from: self, stream)
    self.stream = nil
    moveOn()
  }

  private func setWritable(_ value: Bool) {
    guard let stream, let streamHost else { return }
    isWritable = value
    world.send(.writable(stream, value), to: streamHost, from: self, stream)
  }

  private func askProgress() {
    guard let stream, let streamHost else { return }
    var request: [UInt8] = []
    request.appendMessage(3, [UInt8]().rawSpan)
    world.send(.message(stream, request), to: streamHost, from: self, stream)
  }

  override func take(_ event: ClientEvent) {
    switch event {
    case .message(let id, let bytes) where id == stream: receive(bytes)
    case .finished(let id, _) where id == stream, .lost(let id, _) where id == stream:
      stream = nil
      moveOn()
      wake(after: 1 + UInt64(world.random.next(below: 300_000_000)))
    default: break
    }
  }

  private func receive(_ response: [UInt8]) {
    let revision = headerRevision(response)
    if numberField(4, in: response) != 0 { return cancelled(response) }
    if numberField(3, in: response) != 0 {
      if isCreated { world.violate("watch unique", "watcher \(number) was created twice") }
      isCreated = true
      return
    }
    let problem = WatchOrder.problem(
      response, revision: revision, next: &next, world.checks.ledger, key, end,
      wantsPrevious: wantsPrevious, count: &eventCount)
    world.checks.expect(
      "watch ordered, unique, complete", problem.map { "watcher \(number): \($0)" })
    if isCreated { world.checks.linearizability.saw(revision) }
  }

  private func cancelled(_ response: [UInt8]) {
    let compacted = numberField(5, in: response)
    if compacted > 0 {
      guard compacted >= next else {
        return world.violate(
          "watch resumable", "watcher \(number) asks from \(next), compacted is \(compacted)")
      }
      // What a compaction has taken nobody can have.
      next = compacted + 1
    }
    close()
  }
}
