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
struct IOLoop: ~Copyable {
  struct Settings: Sendable {
    var messageBytesMax: Int
    var session: Session.Settings
    var keepaliveInterval: UInt64
    var keepaliveTimeout: UInt64
    var web: WebSettings
    /// Who shakes hands with those who come by a listener with TLS.
    var greeter: Greeter.Handle?
    /// Whether the common names of client certificates stand for users.
    var usesCommonNames: Bool
  }

  /// A call and what of its message has come.
  struct OpenCall {
    let connection: Connection
    /// 0 for a request of HTTP/1.1.
    let stream: Int32
    var reader: MessageReader
    var isGzip: Bool
    /// What the call is when it is not gRPC's.
    var web: WebCall?
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
    /// How often in one wake the services are asked whether there is more to be done.
    static let roundsPerWake = 64
    /// Bytes of answers to reads above which a wake writes before it reads on.
    static let answeredBytes = 16 << 20
    /// Calls and other requests that are open at once.
    static let callsMax = 65_536
    /// Bytes of HTTP/1.1 requests that have not come whole, of all connections of a loop.
    static let requestBytes = 256 << 20
  }

  let number: Int
  let shared: Shared
  let settings: Settings
  var services: Services<LMDBBackend>
  var reader: LMDBBackend.Reader
  var reactor: Reactor
  private let listeners: [Listener]
  var connections: [UInt64: Connection] = [:]
  let pool = Pool()
  var calls = CallTable<OpenCall>(givesNumbers: true)
  /// Of those calls that get a snapshot.
  var snapshots: [CallID: SnapshotStream] = [:]
  var dirty: [Connection] = []
  /// Connections whose reads wait until their clients have read answers.
  var crowdedCount = 0
  /// Bytes of HTTP/1.1 requests that have not come whole.
  var requestBytes = 0
  var clients = ClientVersions()
  /// Connections of HTTP/1.1 whose next request may be served.
  var resumable: [Connection] = []
  var out = Outbox()
  var nextConnection: UInt64 = 1
  var nextLoop = 0
  private var inbox: [LoopInput] = []
  var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
  /// What TLS has opened.
  var clear: [UInt8] = []
  var complaints = LogThrottle.clients
  private var prefix: [UInt8] = []
  var now = Clock.monotonic()
  private var nextTick: UInt64 = 0
  private var isListening = false
  private var nextSweep: UInt64 = 0
  private var stopsAt: UInt64?
  private var isOver: Bool { stopsAt.map { now >= $0 || calls.isEmpty } ?? false }

  static func open(
    number: Int, shared: Shared, settings: Settings, services: consuming Services<LMDBBackend>,
    reader: LMDBBackend.Reader, listeners: [Listener]
  ) throws(Errno) -> IOLoop {
    let reactor = try Reactor.open(
      shared.loops[number].wakeup, shared.log, descriptorsLeft: Reactor.Limits.descriptorsLeft)
    return IOLoop(
      number: number, shared: shared, settings: settings, services: services, reader: reader,
      reactor: reactor, listeners: listeners)
  }

  private init(
    number: Int, shared: Shared, settings: Settings, services: consuming Services<LMDBBackend>,
    reader: LMDBBackend.Reader, reactor: consuming Reactor, listeners: [Listener]
  ) {
    self.number = number
    self.shared = shared
    self.settings = settings
    self.services = services
    self.reader = reader
    self.reactor = reactor
    self.listeners = listeners
  }

  consuming func run() {
    watchListeners { $0 == .metrics }
    while !isOver {
      wait()
      takeMail()
      for event in reactor.events { handle(event) }
      now = Clock.monotonic()
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        services.tick(out: &out)
        reader.reset()
        report()
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

  /// Lets others see what was counted.
  mutating func report() {
    let report = LoopReport(tally: services.report(), clients: clients)
    shared.loops[number].report.withLock { $0 = report }
  }

  /// Ends what is still open. Without a status of their own, streams that a GOAWAY and the end
  /// of the connection cut off fail with UNKNOWN in grpc-go, which its users do not retry.
  private mutating func takeLeave(_ connection: Connection) {
    finishWeb(of: connection, .stopped)
    if case .http2(let session) = connection.speaker {
      let status = Status(Failure.stopped)
      session.forEachTag { tag in
        guard let call = calls[CallID(tag - 1)], call.web == nil else { return }
        session.finishGRPC(
          call.stream, status: status.code.rawValue, message: status.encodedMessage)
      }
      session.goAway()
    }
    connection.end()
    _ = connection.write(shared.metrics, now: now)
    connection.socket.shutDownWriting()
  }

  private mutating func wait() {
    now = reactor.wait(until: nextTick)
    refreshStatus()
  }

  /// As etcd, serves nobody before the member has published itself, but for metrics and health on
  /// ports of their own.
  private mutating func listen() {
    isListening = true
    watchListeners { $0 != .metrics }
  }

  private mutating func watchListeners(_ isMeant: (Listener.Role) -> Bool) {
    do throws(Errno) {
      try reactor.listen(on: listeners.filter { isMeant($0.role) })
    } catch {
      shared.log.fatal("a listener could not be watched", ("error", "\(error)"))
    }
  }

  private mutating func refreshStatus() {
    let (status, isReady) = shared.board.withLock { ($0.status, $0.isReady) }
    services.status = status
    if isReady, !isListening, stopsAt == nil { listen() }
    services.status.now = now
    services.status.unixSeconds = Int64(Clock.wall() / 1_000_000_000)
  }

  private mutating func takeMail() {
    shared.loops[number].box.drain(into: &inbox)
    for input in inbox {
      switch input {
      case .completions(let batch): services.completed(batch, out: &out)
      case .events(let batch): services.events(batch, out: &out)
      case .readIndex(let ticket, let index):
        services.readIndexReady(ticket: ticket, index: index)
      case .snapshot(let call): forwardSnapshot(call)
      case .restored(let revision, let compactRevision):
        services.storeReplaced(
          revision: revision, compactRevision: compactRevision, out: &out)
      case .wake: break
      case .accepted(let fd, let role): _ = add(Socket.adopting(fd), role, nil)
      case .secured(let secured, let role): add(secured, role)
      case .worked(let work, let answer): services.worked(work, answer, out: &out)
      case .stop: stop()
      }
    }
  }

  /// Tells every client to open no more calls; those that are open may still end.
  private mutating func stop() {
    guard stopsAt == nil else { return }
    stopsAt = now + Limits.stopNanoseconds
    reactor.stopListening()
    for connection in connections.values {
      if case .http2(let session) = connection.speaker { session.beginShutdown() }
      mark(connection)
    }
  }

  // MARK: The services' turn

  /// Lets the services work until nothing moves, and hands out what they ask for.
  private mutating func serve() {
    services.flush(out: &out)
    deliver()
    resume()
    var rounds = 0
    var answered = 0
    while services.wantsStore, rounds < Limits.roundsPerWake, answered < Limits.answeredBytes {
      rounds += 1
      plan()
      services.execute(reader: &reader, out: &out)
      reader.reset()
      answered += out.arena.count
      deliver()
      resume()
    }
    if services.wantsStore || services.hasWatchResponses { shared.loops[number].wakeup.signal() }
  }

  /// Plans reads: of a connection on which too many answers wait only the small ones, and at last
  /// none.
  private mutating func plan() {
    let calls = crowdedCount > 0 ? calls : nil
    shared.storeLock.lockForReading()
    services.plan(
      store: shared.replica.store, control: shared.replica.access, reader: &reader,
      rowsMax: { id in
        guard let connection = calls?[id]?.connection, connection.isCrowded,
          case .http2(let session) = connection.speaker
        else { return .max }
        return session.queuedBytes > Connection.Limits.queuedBytes ? 0 : 1
      })
    shared.storeLock.unlock()
  }

  mutating func deliver() {
    if !out.snapshots.isEmpty { beginSnapshots() }
    for reply in out.replies {
      switch reply {
      case .answer(let call, let slice): answer(call, slice)
      case .message(let call, let slice): send(call, slice)
      case .finish(let call, let failure): finish(call, failure)
      }
    }
    if !out.proposals.isEmpty { shared.raft.post(.proposals(out.proposals)) }
    if let ticket = out.readIndexTicket {
      shared.raft.post(.readIndex(loop: number, ticket: ticket))
    }
    if !out.queries.isEmpty { ask(out.queries) }
    if !out.forwards.isEmpty { shared.peers.box.post(.forwards(out.forwards)) }
    if !out.passwords.isEmpty { handOut(out.passwords) }
    if !out.usedTokens.isEmpty { shared.apply.post(.usedTokens(out.usedTokens)) }
    if let target = out.transferee { shared.raft.post(.transfer(target)) }
    out.removeAll()
  }

  private func ask(_ queries: [Query]) {
    let held = queries.filter(\.waitsForCommitted)
    if !held.isEmpty { shared.raft.post(.questions(held)) }
    if held.count < queries.count {
      shared.apply.post(.queries(queries.filter { !$0.waitsForCommitted }))
    }
  }

  private mutating func answer(_ id: CallID, _ slice: Slice) {
    if let web = calls.with(id, { $0.web }) ?? nil {
      let message = out.arena.rawSpan.extracting(slice).copied()
      return answerWeb(id, web, message)
    }
    guard let call = end(id), case .http2(let session) = call.connection.speaker else { return }
    prefix.removeAll(keepingCapacity: true)
    appendMessagePrefix(Int(slice.count), to: &prefix)
    session.answerGRPC(
      call.stream, prefix: prefix.rawSpan, message: out.arena.rawSpan.extracting(slice))
    crowd(call.connection, session)
    mark(call.connection)
  }

  private mutating func send(_ id: CallID, _ slice: Slice) {
    guard let call = calls[id] else { return }
    if let web = call.web {
      let message = out.arena.rawSpan.extracting(slice).copied()
      return sendWeb(id, call, web, message)
    }
    guard case .http2(let session) = call.connection.speaker else { return }
    session.respondGRPC(call.stream)
    prefix.removeAll(keepingCapacity: true)
    appendMessagePrefix(Int(slice.count), to: &prefix)
    session.send(call.stream, prefix.rawSpan)
    session.send(call.stream, out.arena.rawSpan.extracting(slice))
    if !session.isWritable(call.stream) { services.writable(id, false) }
    mark(call.connection)
  }

  private mutating func finish(_ id: CallID, _ failure: Failure?) {
    if let web = calls[id]?.web { return finishWeb(id, web, failure) }
    guard let call = end(id), case .http2(let session) = call.connection.speaker else { return }
    let status = failure.map(Status.init)
    session.finishGRPC(
      call.stream, status: status?.code.rawValue ?? 0, message: status?.encodedMessage ?? [])
    mark(call.connection)
  }

  /// Forgets a call; its stream goes on to its end.
  mutating func end(_ id: CallID) -> OpenCall? {
    guard let call = calls.remove(id) else { return nil }
    call.connection.heldBytes -= call.reader.held.count + (call.web?.countedBytes ?? 0)
    call.web?.countedBytes = 0
    if !snapshots.isEmpty { snapshots.removeValue(forKey: id)?.close() }
    return call
  }
}
