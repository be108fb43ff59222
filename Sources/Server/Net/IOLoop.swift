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
    /// A connection must have said what it speaks by then.
    static let greetingNanoseconds: UInt64 = 10_000_000_000
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
  private var nextConnection: UInt64 = 1
  var nextCall: UInt64 = 1
  private var nextLoop = 0
  private var inbox: [LoopInput] = []
  private var events: [Poller.Event] = []
  private var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
  var scratch: [UInt8] = []
  var now = Clock.monotonic()
  private var nextTick: UInt64 = 0
  private var isStopping = false
  private var isListening = false

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
    while !isStopping {
      wait()
      takeMail()
      for event in events { handle(event) }
      now = Clock.monotonic()
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        tick()
      }
      serve()
      writeAll()
    }
    for connection in connections.values {
      _ = connection.write(shared.metrics)
    }
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
    if isReady, !isListening { listen() }
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

  private func stop() {
    isStopping = true
    for connection in connections.values {
      if case .http2(let session) = connection.speaker { session.goAway() }
    }
  }

  // MARK: Connections

  private func handle(_ event: Poller.Event) {
    if event.token == Self.wakeToken { return }
    if event.token >= Self.listenerTokens {
      accept(listeners[Int(event.token - Self.listenerTokens)])
      return
    }
    guard let connection = connections[event.token] else { return }
    if !event.ready.isDisjoint(with: [.read, .hangUp, .error]) { read(connection) }
    if event.ready.contains(.write) { mark(connection) }
  }

  private func accept(_ listener: Int32) {
    while true {
      let accepted: Socket?
      do throws(Errno) {
        accepted = try Socket.accept(on: listener)
      } catch {
        shared.log.warn("a connection could not be accepted", ("error", "\(error)"))
        return
      }
      guard let accepted else { return }
      let target = nextLoop % shared.loops.count
      nextLoop += 1
      if target == number {
        add(accepted)
      } else {
        shared.loops[target].box.post(.accepted(accepted.release()))
      }
    }
  }

  private func add(_ socket: consuming Socket) {
    guard connections.count < Limits.connectionsMax else {
      shared.log.warn("too many connections; one was closed")
      return
    }
    let token = nextConnection
    nextConnection += 1
    let fd = socket.fd
    let connection = Connection(
      token: token, socket: socket, now: now, bodyBytesMax: settings.requestBytesMax)
    guard (try? poller.add(fd, .read, token: token)) != nil else { return }
    connections[token] = connection
  }

  func close(_ connection: Connection) {
    guard connections.removeValue(forKey: connection.token) != nil else { return }
    try? poller.remove(connection.socket.fd)
    for stream in connection.streams.values {
      calls[stream.call] = nil
      services.cancelled(stream.call, out: &out)
    }
    connection.streams = [:]
  }

  func mark(_ connection: Connection) {
    guard !connection.isDirty else { return }
    connection.isDirty = true
    dirty.append(connection)
  }

  private func read(_ connection: Connection) {
    while connections[connection.token] != nil, !connection.isEnding {
      let count: Int?
      do throws(Errno) {
        count = try connection.socket.read(into: &buffer)
      } catch {
        return close(connection)
      }
      guard let count else { return }
      if count == 0 { return close(connection) }
      shared.metrics.receivedBytes.add(count)
      connection.lastActive = now
      connection.pingedAt = 0
      let bytes = buffer
      receive(connection, bytes.rawSpan.extracting(0..<count))
      if count < Limits.readBytes { return }
    }
  }

  private func receive(_ connection: Connection, _ bytes: RawSpan) {
    mark(connection)
    switch connection.speaker {
    case .unknown(var start):
      start.append(contentsOf: bytes)
      greet(connection, start)
    case .http2(let session): receive(connection, session, bytes)
    case .http1: receiveHTTP1(connection, bytes)
    }
  }

  /// The first bytes tell HTTP/2 from HTTP/1.1 (RFC 9113 §3.4).
  private func greet(_ connection: Connection, _ start: [UInt8]) {
    let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    let shared = min(start.count, preface.count)
    guard start[..<shared] == preface[..<shared] else {
      connection.speaker = .http1
      return receiveHTTP1(connection, start.rawSpan)
    }
    guard shared == preface.count else {
      connection.speaker = .unknown(start)
      return
    }
    let session = Session(settings: settings.session)
    connection.speaker = .http2(session)
    receive(connection, session, start.rawSpan)
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

  private func tick() {
    services.tick(out: &out)
    for connection in Array(connections.values) { keepAlive(connection) }
  }

  private func keepAlive(_ connection: Connection) {
    switch connection.speaker {
    case .unknown:
      if now &- connection.lastActive > Limits.greetingNanoseconds { close(connection) }
    case .http1: break
    case .http2(let session):
      if connection.pingedAt > 0 {
        if settings.keepaliveTimeout > 0, now &- connection.pingedAt > settings.keepaliveTimeout {
          close(connection)
        }
      } else if settings.keepaliveInterval > 0,
        now &- connection.lastActive > settings.keepaliveInterval
      {
        connection.pingedAt = now
        session.ping()
        mark(connection)
      }
    }
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
    connection.streams[stream] = nil
    let code = failure.map { Int32($0.code.rawValue) } ?? 0
    let message = failure.map { Status(.unknown, $0.text).encodedMessage } ?? []
    session.finishGRPC(stream, status: code, message: message)
    mark(connection)
  }

  private func writeAll() {
    for connection in dirty {
      connection.isDirty = false
      guard connections[connection.token] != nil else { continue }
      guard connection.write(shared.metrics) else {
        close(connection)
        continue
      }
      if case .http2(let session) = connection.speaker { takeLateEvents(connection, session) }
      if connection.hasOutput != connection.wantsWrite {
        connection.wantsWrite = connection.hasOutput
        let interest: Poller.Interest = connection.wantsWrite ? [.read, .write] : .read
        try? poller.change(connection.socket.fd, interest, token: connection.token)
      }
    }
    dirty.removeAll(keepingCapacity: true)
  }
}
