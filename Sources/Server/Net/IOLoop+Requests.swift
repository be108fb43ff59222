internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Replica
internal import Services

extension IOLoop {
  // MARK: HTTP/2

  mutating func receive(_ connection: Connection, _ session: Session, _ bytes: RawSpan) {
    session.now = now
    let isFine = session.receive(bytes)
    takeEvents(connection, session)
    if !isFine { connection.end() }
  }

  /// Events that writing brought: streams that are over, or can be written to again.
  mutating func takeLateEvents(_ connection: Connection, _ session: Session) {
    if !session.events.isEmpty { takeEvents(connection, session) }
  }

  private mutating func takeEvents(_ connection: Connection, _ session: Session) {
    let arena = session.eventBytes
    for event in session.events {
      switch event {
      case .headers(let at, let fields): open(connection, session, at, fields)
      case .data(let at, let slice):
        guard let id = call(session, at) else { continue }
        if let web = calls.with(id, { $0.web }) ?? nil {
          receive(id, web, arena.rawSpan.extracting(slice))
        } else {
          receive(id, session, arena, slice)
        }
      case .endOfStream(let at): if let id = call(session, at) { halfClosed(id, session) }
      case .closed(let at, _):
        if let id = call(session, at), end(id) != nil { services.cancelled(id, out: &out) }
      case .writable(let at):
        guard let id = call(session, at) else { continue }
        services.writable(id, true)
        if !snapshots.isEmpty { forwardSnapshot(id) }
        // Seen while writing, it has to wait for the next wake otherwise.
        shared.loops[number].wakeup.signal()
      }
    }
    session.clearEvents()
  }

  /// The call of a stream, which knows it by the number after its own.
  private func call(_ session: Session, _ at: Session.StreamPlace) -> CallID? {
    let tag = session.tag(at.place)
    return tag == 0 ? nil : CallID(tag - 1)
  }

  private mutating func add(_ call: OpenCall, _ session: Session, _ at: Session.StreamPlace)
    -> CallID
  {
    let id = calls.insert(call)
    session.setTag(at.place, id.rawValue + 1)
    return id
  }

  private mutating func open(
    _ connection: Connection, _ session: Session, _ at: Session.StreamPlace, _ range: Range<Int>
  ) {
    let head = Head(session, range)
    let stream = at.stream
    guard head.isGRPC else {
      guard connection.role != .grpc else {
        return session.respond(stream, status: 415, fields: [], body: RawSpan())
      }
      guard calls.count < Limits.callsMax, connection.heldBytes <= Connection.Limits.heldBytes,
        session.queuedBytes <= Connection.Limits.queuedBytes
      else { return session.respond(stream, status: 503, fields: [], body: RawSpan()) }
      _ = self.open(head.plain(session, range), connection, session, at)
      return
    }
    guard connection.role == .all || connection.role == .grpc else {
      return session.respond(stream, status: 415, fields: [], body: RawSpan())
    }
    if let wrong = head.wrong() {
      session.refuseGRPC(
        stream, httpStatus: wrong.http, status: wrong.status.code.rawValue,
        message: wrong.status.encodedMessage)
      return
    }
    let arena = session.eventBytes
    guard let method = Method(path: arena.rawSpan.extracting(head.path)) else {
      let status = Head.unknown(head.text(head.path))
      session.finishGRPC(stream, status: status.code.rawValue, message: status.encodedMessage)
      return
    }
    let refusal =
      session.queuedBytes > Connection.Limits.queuedBytes
      ? Status(Failure.tooMany) : head.refusal()
    if let refusal {
      session.finishGRPC(
        stream, status: refusal.code.rawValue, message: refusal.encodedMessage)
      return
    }
    clients.note(arena.rawSpan.extracting(head.clientVersion), method)
    let call = OpenCall(
      connection: connection, stream: stream,
      reader: MessageReader(bytesMax: settings.messageBytesMax), isGzip: head.isGzip, web: nil)
    services.open(
      add(call, session, at), method, needsLeader: head.needsLeader, timeout: head.timeout,
      token: head.bytes(head.token), commonName: connection.sealing?.commonName ?? [],
      isProxied: head.isProxied, out: &out)
  }

  private mutating func receive(
    _ id: CallID, _ session: Session, _ arena: [UInt8], _ slice: Slice
  ) {
    // Taken out, so that what it holds has one owner and grows in place.
    var reader = MessageReader(bytesMax: 0)
    let found = calls.with(id) { call in
      swap(&reader, &call.reader)
      return (call.connection, call.isGzip)
    }
    guard let (connection, isGzip) = found else { return }
    let heldBefore = reader.held.count
    let chunk = arena.rawSpan.extracting(slice)
    var offset = 0
    loop: while true {
      switch reader.next(in: chunk, from: &offset) {
      case .message(let message, let isHeld):
        let held = isHeld ? reader.held : arena
        let body = (isHeld ? held.rawSpan : chunk).extracting(message.body)
        do throws(Status) {
          try take(body, message.isCompressed, id, isGzip: isGzip)
        } catch {
          connection.heldBytes -= heldBefore
          return refuse(id, session, error)
        }
      case .needsMore: break loop
      case .refused(let status):
        connection.heldBytes -= heldBefore
        return refuse(id, session, status)
      }
    }
    connection.heldBytes += reader.held.count - heldBefore
    guard calls.contains(id) else { return }
    calls.with(id) { swap(&reader, &$0.reader) }
    if connection.heldBytes > Connection.Limits.heldBytes {
      refuse(id, session, Status(Failure.tooMany))
    }
  }

  private mutating func take(
    _ body: RawSpan, _ isCompressed: Bool, _ id: CallID, isGzip: Bool
  ) throws(Status) {
    guard isCompressed else { return services.receive(id, body, out: &out) }
    guard isGzip else { throw Head.compressed }
    let bytes = try gunzip(body, bytesMax: settings.messageBytesMax)
    services.receive(id, bytes.rawSpan, out: &out)
  }

  private mutating func refuse(_ id: CallID, _ session: Session, _ status: Status) {
    guard let call = end(id) else { return }
    services.cancelled(id, out: &out)
    session.finishGRPC(
      call.stream, status: status.code.rawValue, message: status.encodedMessage)
  }

  private mutating func halfClosed(_ id: CallID, _ session: Session) {
    guard let call = calls[id] else { return }
    if let web = call.web {
      ended(id, web)
    } else if call.reader.isInsideMessage {
      refuse(id, session, Status(.unknown, "unexpected EOF"))
    } else {
      services.halfClosed(id, out: &out)
    }
  }

  // MARK: HTTP/1.1

  mutating func receiveHTTP1(_ connection: Connection, _ bytes: RawSpan) {
    if connection.webSocket != nil { return receiveWebSocket(connection, bytes) }
    connection.parser.receive(bytes)
    serveHTTP1(connection)
  }

  /// Serves the requests that have come, one after the other, until too much waits to be
  /// written.
  mutating func serveHTTP1(_ connection: Connection) {
    var isDry = false
    while connection.takesRequests, !isDry {
      do throws(Refusal) {
        let settings = settings.web
        let step = try connection.parser.next(streaming: { Self.isStreamed($0, settings) })
        if let step { take(step, connection) } else { isDry = true }
      } catch {
        refuse(connection, error)
      }
    }
    connection.hasPausedRequests = !isDry && !connection.takesRequests
    if connection.parser.takeContinue() {
      connection.output += ResponseHead.goOn
    }
    // The body of a stream may come as slowly as it likes.
    count(connection)
    let isInside = connection.parser.isInsideRequest && !connection.parser.isStreaming
    connection.requestSince = isInside ? connection.requestSince ?? now : nil
    mark(connection)
  }

  /// Counts what a connection keeps of requests that are not whole; one that brings the loop over
  /// its limit is refused.
  mutating func count(_ connection: Connection) {
    let held =
      connection.heldBytes + (connection.webSocket?.heldBytes ?? connection.parser.heldBytes)
    requestBytes += held - connection.countedBytes
    connection.countedBytes = held
    guard requestBytes > Limits.requestBytes, held > 0, case .none = connection.ending else {
      return
    }
    if connection.webSocket != nil { return closeWebSocket(connection, 1013) }
    refuse(connection, Refusal(503, "too many requests"))
  }

  private mutating func take(_ step: RequestParser.Step, _ connection: Connection) {
    switch step {
    case .request(let request):
      if upgrade(request, connection) { return }
      var head = request
      head.body = []
      let id = open(head, connection, nil, nil)
      guard let web = calls[id]?.web else { return }
      let body = request.body
      if !body.isEmpty { receive(id, web, body.rawSpan) }
      if calls.contains(id) { ended(id, web) }
    case .opened(let head): _ = open(head, connection, nil, nil)
    case .piece(let piece):
      guard let id = connection.call, let web = calls[id]?.web else { return }
      receive(id, web, piece.rawSpan)
    case .ended:
      guard let id = connection.call, let web = calls[id]?.web else { return }
      ended(id, web)
    }
  }

  /// Answers what is no request and ends the connection: where the next one begins is not known.
  private mutating func refuse(_ connection: Connection, _ refusal: Refusal) {
    if let id = connection.call {
      connection.call = nil
      if end(id) != nil { services.cancelled(id, out: &out) }
    } else {
      let head = ResponseHead(
        status: refusal.status, contentType: "text/plain; charset=utf-8", keepsAlive: false,
        isOld: false)
      let body = Array(
        "\(refusal.status) \(reasonPhrase(refusal.status)): \(refusal.reason)\n".utf8)
      head.append(body: body.rawSpan, isHead: false, to: &connection.output)
    }
    connection.end()
  }
}
