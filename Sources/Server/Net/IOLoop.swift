internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
internal import LMDB
internal import MVCC
internal import Platform
internal import Replica
internal import Services

/// One io thread: connections, the services that they speak to, and a reader of the store.
/// Each wake takes all that is there, lets the services work once, and writes to each connection
/// once.
final class IOLoop {
  struct Settings: Sendable {
    var requestBytesMax: Int
    var messageBytesMax: Int
    var session: Session.Settings
    var keepaliveInterval: UInt64
    var keepaliveTimeout: UInt64
  }

  enum Limits {
    static let connectionsMax = 32 << 10
    static let tickNanoseconds: UInt64 = 100_000_000
    /// Between two looks at all connections.
    static let sweepNanoseconds: UInt64 = 1_000_000_000
    /// A connection must have said what it speaks by then.
    static let greetingNanoseconds: UInt64 = 10_000_000_000
    /// A request of HTTP/1.1 must be whole, and an answer be read on, by then.
    static let stallNanoseconds: UInt64 = 60_000_000_000
    /// An ending connection: to take what waits for it, and to close its side.
    static let endingNanoseconds: UInt64 = 5_000_000_000
    static let lingerNanoseconds: UInt64 = 1_000_000_000
    /// What a stopping server gives its clients to hear of it and its calls to end.
    static let stopNanoseconds: UInt64 = 500_000_000
    static let readBytes = 64 << 10
  }

  static let wakeToken = UInt64.max
  static let listenerTokens: UInt64 = 1 << 62

  let number: Int
  let shared: Shared
  let settings: Settings
  var services: Services<LMDBBackend>
  var reader: LMDBBackend.Reader
  var poller: Poller
  var listeners: [Int32]
  var connections: [UInt64: Connection] = [:]
  var calls: [CallID: (connection: Connection, stream: Int32)] = [:]
  var dirty: [Connection] = []
  var out = Outbox()
  var nextConnection: UInt64 = 1
  var nextCall: UInt64 = 1
  var nextLoop = 0
  private var inbox: [LoopInput] = []
  private var events: [Poller.Event] = []
  var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
  var scratch: [UInt8] = []
  var now = Clock.monotonic()
  private var nextTick: UInt64 = 0
  var isListening = false
  private var nextSweep: UInt64 = 0
  /// No connection is accepted: descriptors have run out, or the server stops.
  var isAccepting = true
  private var stopsAt: UInt64?
  var isStopping: Bool { stopsAt != nil }
  private var isOver: Bool { stopsAt.map { now >= $0 || calls.isEmpty } ?? false }

  init(
    number: Int, shared: Shared, settings: Settings, services: consuming Services<LMDBBackend>,
    reader: LMDBBackend.Reader, listeners: [Int32]
  ) throws(Errno) {
    self.number = number
    self.shared = shared
    self.settings = settings
    self.services = services
    self.reader = reader
    self.listeners = listeners
    poller = try Poller.open()
    try poller.add(shared.loops[number].wakeup.fd, .read, token: Self.wakeToken)
  }

  func run() {
    while !isOver {
      wait()
      takeMail()
      for event in events { handle(event) }
      now = Clock.monotonic()
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        services.tick(out: &out)
      }
      if now >= nextSweep {
        nextSweep = now + Limits.sweepNanoseconds
        sweep()
      }
      serve()
      writeAll()
    }
    for connection in connections.values { takeLeave(connection) }
    shared.loops[number].stopped.withLock { $0 = true }
    shared.loops[number].stopped.signal()
  }

  /// Ends what is still open. Without a status of their own, streams that a GOAWAY and the end
  /// of the connection cut off fail with UNKNOWN in grpc-go, which its users do not retry.
  private func takeLeave(_ connection: Connection) {
    if case .http2(let session) = connection.speaker {
      let status = Status(.unavailable, "etcdserver: server stopped")
      for (stream, state) in connection.streams where state.plain == nil {
        session.finishGRPC(
          stream, status: status.code.rawValue, message: status.encodedMessage)
      }
      session.goAway()
    }
    _ = connection.write(shared.metrics, now: now)
    connection.socket.shutDownWriting()
  }

  private func wait() {
    now = Clock.monotonic()
    let milliseconds = nextTick > now ? (nextTick - now) / 1_000_000 + 1 : 0
    events.removeAll(keepingCapacity: true)
    do throws(Errno) {
      try poller.wait(milliseconds: Int32(clamping: milliseconds), into: &events)
    } catch {
      shared.log.fatal("epoll failed", ("error", "\(error)"))
    }
    now = Clock.monotonic()
    refreshStatus()
  }

  /// As etcd, serves nobody before the member has published itself.
  private func listen() {
    isListening = true
    for (place, listener) in listeners.enumerated() {
      do throws(Errno) {
        try poller.add(listener, .read, token: Self.listenerTokens + UInt64(place))
      } catch {
        shared.log.fatal("a listener could not be watched", ("error", "\(error)"))
      }
    }
  }

  private func refreshStatus() {
    let (status, isReady) = shared.board.withLock { ($0.status, $0.isReady) }
    services.status = status
    if isReady, !isListening, !isStopping { listen() }
    services.status.now = now
    services.status.unixSeconds = Int64(Clock.wall() / 1_000_000_000)
  }

  private func takeMail() {
    shared.loops[number].wakeup.clear()
    shared.loops[number].box.drain(into: &inbox)
    for input in inbox {
      switch input {
      case .completions(let batch): services.completed(batch, out: &out)
      case .events(let batch): services.events(batch, out: &out)
      case .readIndex(let ticket, let index):
        services.readIndexReady(ticket: ticket, index: index)
      case .wake: break
      case .accepted(let fd): add(Socket.adopting(fd))
      case .stop: stop()
      }
    }
  }

  /// Tells every client to open no more calls; those that are open may still end.
  private func stop() {
    guard stopsAt == nil else { return }
    stopsAt = now + Limits.stopNanoseconds
    setAccepting(false)
    for connection in connections.values {
      if case .http2(let session) = connection.speaker { session.beginShutdown() }
      mark(connection)
    }
  }

  // MARK: The services' turn

  /// Lets the services work until nothing moves, and hands out what they ask for.
  private func serve() {
    services.flush(out: &out)
    deliver()
    var rounds = 0
    while services.wantsStore, rounds < 64 {
      rounds += 1
      shared.storeLock.lockForReading()
      services.plan(store: shared.replica.store, reader: &reader)
      shared.storeLock.unlock()
      services.execute(reader: &reader, out: &out)
      reader.reset()
      deliver()
    }
    if services.wantsStore { shared.loops[number].wakeup.signal() }
  }

  private func deliver() {
    for reply in out.replies {
      switch reply {
      case .message(let call, let slice): send(call, slice)
      case .finish(let call, let failure): finish(call, failure)
      }
    }
    if !out.proposals.isEmpty { shared.raft.post(.proposals(out.proposals)) }
    if let ticket = out.readIndexTicket {
      shared.raft.post(.readIndex(loop: number, ticket: ticket))
    }
    if !out.queries.isEmpty { shared.apply.post(.queries(out.queries)) }
    if let target = out.transferee { shared.raft.post(.transfer(target)) }
    out.removeAll()
  }

  private func send(_ call: CallID, _ slice: Slice) {
    guard let (connection, stream) = calls[call],
      case .http2(let session) = connection.speaker
    else { return }
    session.respondGRPC(stream)
    scratch.removeAll(keepingCapacity: scratch.capacity <= 1 << 20)
    appendMessagePrefix(Int(slice.count), to: &scratch)
    scratch.append(contentsOf: out.arena.rawSpan.extracting(slice))
    session.send(stream, scratch.rawSpan)
    if !session.isWritable(stream) { services.writable(call, false) }
    mark(connection)
  }

  private func finish(_ call: CallID, _ failure: Failure?) {
    guard let (connection, stream) = calls.removeValue(forKey: call),
      case .http2(let session) = connection.speaker
    else { return }
    _ = connection.removeStream(stream)
    let code = failure.map { Int32($0.code.rawValue) } ?? 0
    let message = failure.map { Status(.unknown, $0.text).encodedMessage } ?? []
    session.finishGRPC(stream, status: code, message: message)
    mark(connection)
  }
}
