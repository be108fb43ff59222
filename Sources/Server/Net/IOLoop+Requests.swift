internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
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
        if let id = call(session, at) { receive(id, session, arena, slice) }
      case .endOfStream(let at): if let id = call(session, at) { halfClosed(id, session) }
      case .closed(let at, _):
        if let id = call(session, at), end(id) != nil { services.cancelled(id, out: &out) }
      case .writable(let at): if let id = call(session, at) { services.writable(id, true) }
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
      let call = OpenCall(
        connection: connection, stream: stream, reader: MessageReader(bytesMax: 0), isGzip: false,
        plain: head.plain())
      _ = add(call, session, at)
      return
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
      ? Status(.resourceExhausted, "etcdserver: too many requests") : head.refusal()
    if let refusal {
      session.finishGRPC(
        stream, status: refusal.code.rawValue, message: refusal.encodedMessage)
      return
    }
    let call = OpenCall(
      connection: connection, stream: stream,
      reader: MessageReader(bytesMax: settings.messageBytesMax), isGzip: head.isGzip, plain: nil)
    services.open(
      add(call, session, at), method, needsLeader: head.needsLeader, timeout: head.timeout,
      token: head.bytes(head.token), isProxied: head.isProxied, out: &out)
  }

  private mutating func receive(
    _ id: CallID, _ session: Session, _ arena: [UInt8], _ slice: Slice
  ) {
    guard let call = calls[id], call.plain == nil else { return }
    // Taken out, so that what it holds has one owner and grows in place.
    var reader = MessageReader(bytesMax: 0)
    swap(&reader, &calls[id]!.reader)
    let heldBefore = reader.held.count
    let chunk = arena.rawSpan.extracting(slice)
    var offset = 0
    loop: while true {
      switch reader.next(in: chunk, from: &offset) {
      case .message(let message, let isHeld):
        let held = isHeld ? reader.held : arena
        let body = (isHeld ? held.rawSpan : chunk).extracting(message.body)
        do throws(Status) {
          try take(body, message.isCompressed, id, isGzip: call.isGzip)
        } catch {
          call.connection.heldBytes -= heldBefore
          return refuse(id, session, error)
        }
      case .needsMore: break loop
      case .refused(let status):
        call.connection.heldBytes -= heldBefore
        return refuse(id, session, status)
      }
    }
    call.connection.heldBytes += reader.held.count - heldBefore
    guard calls.contains(id) else { return }
    swap(&reader, &calls[id]!.reader)
    if call.connection.heldBytes > Connection.Limits.heldBytes {
      refuse(id, session, Status(.resourceExhausted, "etcdserver: too many requests"))
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
    guard let plain = call.plain else {
      if call.reader.isInsideMessage {
        refuse(id, session, Status(.unknown, "unexpected EOF"))
      } else {
        services.halfClosed(id, out: &out)
      }
      return
    }
    _ = end(id)
    let answer = Endpoints.answer(plain.method, plain.path, plain.query, shared)
    session.respond(
      call.stream, status: answer.status, contentType: answer.contentType,
      body: answer.body.rawSpan)
    mark(call.connection)
  }

  // MARK: HTTP/1.1

  mutating func receiveHTTP1(_ connection: Connection, _ bytes: RawSpan) {
    connection.parser.receive(bytes)
    serveHTTP1(connection)
  }

  /// Answers the requests that have come whole, until too much waits to be written.
  mutating func serveHTTP1(_ connection: Connection) {
    var isDry = false
    while connection.takesRequests, !isDry {
      do throws(Refusal) {
        guard let request = try connection.parser.next() else {
          isDry = true
          continue
        }
        let answer = Endpoints.answer(request.method, request.path, request.query, shared)
        let head = ResponseHead(
          status: answer.status, contentType: answer.contentType, keepsAlive: request.keepsAlive,
          isOld: request.isOld)
        head.append(
          body: answer.body.rawSpan, isHead: request.method == "HEAD", to: &connection.output)
        if !request.keepsAlive { connection.end() }
      } catch {
        let head = ResponseHead(
          status: error.status, contentType: "text/plain; charset=utf-8", keepsAlive: false,
          isOld: false)
        let body = Array("\(error.status) \(reasonPhrase(error.status)): \(error.reason)\n".utf8)
        head.append(body: body.rawSpan, isHead: false, to: &connection.output)
        connection.end()
      }
    }
    connection.hasPausedRequests = !isDry && !connection.takesRequests
    if connection.parser.takeContinue() {
      connection.output += [UInt8]("HTTP/1.1 100 Continue\r\n\r\n")
    }
    let isInside = connection.parser.isInsideRequest
    connection.requestSince = isInside ? connection.requestSince ?? now : nil
    mark(connection)
  }
}
