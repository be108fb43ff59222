internal import Basics
internal import HTTP2
internal import Platform
internal import Services

extension IOLoop {
  mutating func handle(_ event: Poller.Event) {
    if let place = reactor.listener(of: event) { return accept(place) }
    guard let connection = connections[event.token] else { return }
    if !event.ready.isDisjoint(with: [.hangUp, .error]), !connection.isReading {
      return close(connection)
    }
    if !event.ready.isDisjoint(with: [.read, .hangUp, .error]) { read(connection) }
    if event.ready.contains(.write) { mark(connection) }
  }

  // MARK: Coming

  private mutating func accept(_ place: Int) {
    let listener = reactor.listeners[place]
    for _ in 0..<Reactor.Limits.acceptsPerWake {
      guard let socket = reactor.accept(place) else { return }
      let target = nextLoop % shared.loops.count
      nextLoop += 1
      if listener.files != nil, let greeter = settings.greeter {
        greeter.greet(socket, from: place, for: .loop(target, listener.role))
      } else if target == number {
        _ = add(socket, listener.role, nil)
      } else {
        shared.loops[target].box.post(.accepted(socket.release(), listener.role))
      }
    }
  }

  mutating func add(
    _ socket: consuming Socket, _ role: Listener.Role, _ sealing: Sealing?
  ) -> Connection? {
    guard connections.count < Limits.connectionsMax else {
      shared.log.warn("too many connections; one was closed")
      return nil
    }
    let token = nextConnection
    nextConnection += 1
    let fd = socket.fd
    let connection = Connection(
      token: token, socket: socket, role: role, sealing: sealing, now: now,
      bodyBytesMax: settings.web.bodyBytesMax)
    guard (try? reactor.poller.add(fd, .read, token: token)) != nil else { return nil }
    connections[token] = connection
    return connection
  }

  // MARK: Bytes in

  private mutating func read(_ connection: Connection) {
    for _ in 0..<Connection.Limits.readsPerWake {
      guard connections[connection.token] != nil, connection.isReading else { return }
      let count: Int?
      do throws(Errno) {
        count = try connection.socket.read(into: &buffer)
      } catch {
        return close(connection)
      }
      guard let count else { return }
      if count == 0 { return ended(connection) }
      if case .lingering = connection.ending { continue }
      shared.metrics.receivedBytes.add(count)
      connection.lastActive = now
      connection.pingedAt = 0
      let bytes = buffer
      if let sealing = connection.sealing {
        let part = bytes.rawSpan.extracting(0..<count)
        guard receiveSealed(connection, sealing, part) else { return }
      } else {
        receive(connection, bytes.rawSpan.extracting(0..<count))
      }
      if count < Limits.readBytes { return }
    }
  }

  /// The client sends no more. One of HTTP/1.1 may still wait for answers that are made; one that
  /// is being made is given up, as Go's server does it.
  mutating func ended(_ connection: Connection) {
    guard case .http1 = connection.speaker, case .none = connection.ending,
      connection.waitingBytes > 0, connection.call == nil
    else { return close(connection) }
    connection.end()
    mark(connection)
  }

  /// The door of a connection's bytes in clear.
  mutating func receive(_ connection: Connection, _ bytes: RawSpan) {
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
  private mutating func greet(_ connection: Connection, _ start: [UInt8]) {
    let preface = [UInt8]("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    let shared = min(start.count, preface.count)
    guard start[..<shared] == preface[..<shared] else {
      if isTLSHandshake(start.rawSpan) { return refuseHandshake(connection) }
      guard connection.role != .grpc else { return close(connection) }
      connection.speaker = .http1
      return receiveHTTP1(connection, start.rawSpan)
    }
    guard shared == preface.count else {
      connection.speaker = .unknown(start)
      return
    }
    let session = Session(settings: settings.session, pool: pool)
    connection.speaker = .http2(session)
    receive(connection, session, start.rawSpan)
  }

  // MARK: Bytes out

  mutating func mark(_ connection: Connection) {
    guard !connection.isDirty else { return }
    connection.isDirty = true
    dirty.append(connection)
  }

  /// Writes once to each connection that something happened on.
  mutating func writeAll() {
    var at = 0
    while at < dirty.count {
      let connection = dirty[at]
      at += 1
      connection.isDirty = false
      guard connections[connection.token] != nil else { continue }
      let progress = connection.write(shared.metrics, now: now)
      if case .broken = progress {
        close(connection)
        continue
      }
      if case .http2(let session) = connection.speaker { takeLateEvents(connection, session) }
      relieve(connection)
      if case .done = progress, !settle(connection) { continue }
      watch(connection)
    }
    dirty.removeAll(keepingCapacity: true)
  }

  /// Goes on with an end that all is written for. False: the connection is closed.
  private mutating func settle(_ connection: Connection) -> Bool {
    switch connection.ending {
    case .none: return true
    case .writing:
      connection.socket.shutDownWriting()
      connection.ending = .lingering
      connection.endsBy = now + Limits.lingerNanoseconds
      return true
    case .lingering: return true
    }
  }

  private mutating func watch(_ connection: Connection) {
    if connection.hasPausedRequests, connection.takesRequests {
      serveHTTP1(connection)
      // What it asks for is handed out in the next wake.
      shared.loops[number].wakeup.signal()
    }
    if case .writing = connection.ending, connection.endsBy == .max {
      connection.endsBy = now + Limits.endingNanoseconds
    }
    var interest: Poller.Interest = connection.isReading ? .read : []
    if connection.waitingBytes > 0 { interest.insert(.write) }
    guard interest != connection.interest else { return }
    connection.interest = interest
    try? reactor.poller.change(connection.socket.fd, interest, token: connection.token)
  }

  // MARK: Going

  mutating func close(_ connection: Connection) {
    guard connections.removeValue(forKey: connection.token) != nil else { return }
    try? reactor.poller.remove(connection.socket.fd)
    requestBytes -= connection.countedBytes
    if connection.isCrowded { disperse(connection) }
    if let id = connection.call, end(id) != nil { services.cancelled(id, out: &out) }
    guard case .http2(let session) = connection.speaker else { return }
    session.forEachTag { tag in
      let id = CallID(tag - 1)
      if end(id) != nil { services.cancelled(id, out: &out) }
    }
  }

  /// Looks at all connections: which are overdue, and which must show that they live.
  mutating func sweep() {
    for connection in Array(connections.values) {
      if now > connection.endsBy || isOverdue(connection) {
        close(connection)
      } else if case .http2(let session) = connection.speaker {
        keepAlive(connection, session)
      }
    }
  }

  private func isOverdue(_ connection: Connection) -> Bool {
    switch connection.speaker {
    case .unknown: now &- connection.openedAt > Limits.greetingNanoseconds
    case .http1:
      if let since = connection.requestSince {
        now &- since > Limits.stallNanoseconds
      } else {
        connection.waitingBytes > 0 && now &- connection.lastActive > Limits.stallNanoseconds
      }
    case .http2: false
    }
  }

  /// etcd: `--grpc-keepalive-interval` and `--grpc-keepalive-timeout`.
  private mutating func keepAlive(_ connection: Connection, _ session: Session) {
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
