internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
internal import Services

extension IOLoop {
  // MARK: HTTP/2

  func receive(_ connection: Connection, _ session: Session, _ bytes: RawSpan) {
    session.now = now
    let isFine = session.receive(bytes)
    takeEvents(connection, session)
    if !isFine { connection.end() }
  }

  /// Events that writing brought: streams that are over, or can be written to again.
  func takeLateEvents(_ connection: Connection, _ session: Session) {
    if !session.events.isEmpty { takeEvents(connection, session) }
  }

  private func takeEvents(_ connection: Connection, _ session: Session) {
    for event in session.events {
      switch event {
      case .headers(let stream, let fields): open(connection, session, stream, fields)
      case .data(let stream, let slice): receive(connection, session, stream, slice)
      case .endOfStream(let stream): halfClosed(connection, session, stream)
      case .closed(let stream, _):
        if let old = connection.removeStream(stream),
          calls.removeValue(forKey: old.call) != nil
        {
          services.cancelled(old.call, out: &out)
        }
      case .writable(let stream):
        if let call = connection.streams[stream]?.call { services.writable(call, true) }
      }
    }
    session.clearEvents()
  }

  private func open(
    _ connection: Connection, _ session: Session, _ stream: Int32, _ range: Range<Int>
  ) {
    let head = Head(session, range)
    let call = CallID(nextCall)
    nextCall += 1
    guard head.isGRPC else {
      connection.streams[stream] = Connection.Stream(
        call: call, reader: MessageReader(bytesMax: 0), isGzip: false,
        plain: head.plain())
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
    connection.streams[stream] = Connection.Stream(
      call: call, reader: MessageReader(bytesMax: settings.messageBytesMax), isGzip: head.isGzip,
      plain: nil)
    calls[call] = (connection, stream)
    services.open(
      call, method, needsLeader: head.needsLeader, timeout: head.timeout,
      token: head.bytes(head.token), out: &out)
  }

  private func receive(
    _ connection: Connection, _ session: Session, _ stream: Int32, _ slice: Slice
  ) {
    guard let at = connection.streams.index(forKey: stream),
      connection.streams.values[at].plain == nil
    else { return }
    let state = connection.streams.values[at]
    // Taken out, so that what it holds has one owner and grows in place.
    var reader = MessageReader(bytesMax: 0)
    swap(&reader, &connection.streams.values[at].reader)
    let heldBefore = reader.held.count
    let arena = session.eventBytes
    let chunk = arena.rawSpan.extracting(slice)
    var offset = 0
    loop: while true {
      switch reader.next(in: chunk, from: &offset) {
      case .message(let message, let isHeld):
        let held = isHeld ? reader.held : arena
        let body = (isHeld ? held.rawSpan : chunk).extracting(message.body)
        do throws(Status) {
          try take(body, message.isCompressed, state)
        } catch {
          connection.heldBytes -= heldBefore
          return refuse(connection, session, stream, state.call, error)
        }
      case .needsMore: break loop
      case .refused(let status):
        connection.heldBytes -= heldBefore
        return refuse(connection, session, stream, state.call, status)
      }
    }
    connection.heldBytes += reader.held.count - heldBefore
    guard let at = connection.streams.index(forKey: stream) else { return }
    swap(&reader, &connection.streams.values[at].reader)
    if connection.heldBytes > Connection.Limits.heldBytes {
      refuse(
        connection, session, stream, state.call,
        Status(.resourceExhausted, "etcdserver: too many requests"))
    }
  }

  private func take(
    _ body: RawSpan, _ isCompressed: Bool, _ state: Connection.Stream
  ) throws(Status) {
    guard isCompressed else { return services.receive(state.call, body, out: &out) }
    guard state.isGzip else { throw Head.compressed }
    let bytes = try gunzip(body, bytesMax: settings.messageBytesMax)
    services.receive(state.call, bytes.rawSpan, out: &out)
  }

  private func refuse(
    _ connection: Connection, _ session: Session, _ stream: Int32, _ call: CallID,
    _ status: Status
  ) {
    _ = connection.removeStream(stream)
    calls[call] = nil
    services.cancelled(call, out: &out)
    session.finishGRPC(stream, status: status.code.rawValue, message: status.encodedMessage)
  }

  private func halfClosed(_ connection: Connection, _ session: Session, _ stream: Int32) {
    guard let state = connection.streams[stream] else { return }
    guard let plain = state.plain else {
      if state.reader.isInsideMessage {
        refuse(
          connection, session, stream, state.call,
          Status(.unknown, "unexpected EOF"))
        return
      }
      services.halfClosed(state.call, out: &out)
      return
    }
    _ = connection.removeStream(stream)
    let answer = Endpoints.answer(plain.method, plain.path, plain.query, shared)
    session.respond(
      stream, status: answer.status, contentType: answer.contentType, body: answer.body.rawSpan)
    mark(connection)
  }

  // MARK: HTTP/1.1

  func receiveHTTP1(_ connection: Connection, _ bytes: RawSpan) {
    connection.parser.receive(bytes)
    serveHTTP1(connection)
  }

  /// Answers the requests that have come whole, until too much waits to be written.
  func serveHTTP1(_ connection: Connection) {
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
