internal import Basics
internal import GRPC
internal import Gateway
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Replica
internal import Services

// Requests without gRPC, over HTTP/1.1 and HTTP/2 alike: from the head to the last byte of the
// answer.
extension IOLoop {
  // MARK: Requests

  /// Takes a request's head: decides what becomes of it.
  mutating func open(
    _ request: Request, _ connection: Connection, _ session: Session?, _ place: Session.StreamPlace?
  ) -> CallID {
    let web = WebCall(
      request, .answer(.error(404, "404 page not found")), place,
      bodyBytesMax: settings.web.bodyBytesMax)
    if connection.sealing == nil,
      let refusal = settings.web.access.refusal(host: request.header("host") ?? "")
    {
      shared.log.warn("a request was refused since its Host is not in --host-whitelist")
      web.task = .answer(.error(421, refusal))
    } else if settings.web.hasGateway, services.status.isAuthEnabled, Route.owns(request.path),
      connection.sealing?.commonName.isEmpty == false
    {
      // etcd: the gateway's own certificate would stand for the client's.
      web.task = .answer(
        .error(
          400,
          "CommonName of client sending a request against gateway will be ignored and not used "
            + "as expected"))
    } else {
      web.fields = settings.web.access.fields(origin: request.header("origin") ?? "")
      web.task = task(request, connection)
    }
    return insert(web, connection, session)
  }

  /// Gives the call a number, in place of one that it may have had.
  private mutating func insert(
    _ web: WebCall, _ connection: Connection, _ session: Session?
  ) -> CallID {
    let id = calls.insert(
      OpenCall(
        connection: connection, stream: web.place?.stream ?? 0, reader: MessageReader(bytesMax: 0),
        isGzip: false, web: web))
    if let place = web.place {
      session?.setTag(place.place, id.rawValue + 1)
    } else {
      connection.call = id
    }
    connection.heldBytes += web.heldBytes - web.countedBytes
    web.countedBytes = web.heldBytes
    return id
  }

  private func task(_ request: Request, _ connection: Connection) -> WebCall.Task {
    if request.method == "OPTIONS" { return .answer(WebAnswer(200, "", [])) }
    guard settings.web.hasGateway, connection.role != .metrics, Route.owns(request.path) else {
      return Endpoints.task(request, connection.role, settings.web, shared)
    }
    guard let route = Route(path: request.path) else { return .answer(.error(404, "Not Found")) }
    guard request.method == "POST" else { return .answer(.error(405, "Method Not Allowed")) }
    return route.isStream ? .stream(route) : .unary(route)
  }

  /// Whether the body of a request of HTTP/1.1 is wanted in pieces.
  static func isStreamed(_ request: Request, _ settings: WebSettings) -> Bool {
    settings.hasGateway && request.method == "POST" && Route(path: request.path)?.isStream == true
  }

  /// Takes a piece of a request's body.
  mutating func receive(_ id: CallID, _ web: WebCall, _ piece: RawSpan) {
    switch web.task {
    case .answer, .probe: break
    case .unary:
      guard web.body.count + piece.byteCount <= settings.web.bodyBytesMax else {
        return answerWeb(
          id, web, .error(413, "413 Request Entity Too Large: the body is too large"))
      }
      web.body.append(contentsOf: piece)
    case .stream(let route):
      guard !web.isSatisfied else { return }
      web.documents.receive(piece)
      pump(id, web, route, isLast: false)
    }
    count(id, web)
  }

  /// Counts what a call keeps against the connection's limit.
  private mutating func count(_ id: CallID, _ web: WebCall) {
    guard let connection = calls[id]?.connection else { return }
    connection.heldBytes += web.heldBytes - web.countedBytes
    web.countedBytes = web.heldBytes
    if connection.heldBytes > Connection.Limits.heldBytes { finishWeb(id, web, .tooMany) }
  }

  /// The request has come whole.
  mutating func ended(_ id: CallID, _ web: WebCall) {
    switch web.task {
    case .answer(let answer): answerWeb(id, web, answer)
    case .probe: probe(id, web)
    case .unary(let route):
      do throws(BadRequest) {
        let message = try encodeBody(web.body, as: route.request)
        web.body = []
        count(id, web)
        guard openCall(id, web, route) else { return }
        services.receive(id, message.rawSpan, out: &out)
        services.halfClosed(id, out: &out)
      } catch {
        answerWeb(id, web, Status(.invalidArgument, error.text))
      }
    case .stream(let route):
      if !web.isSatisfied { pump(id, web, route, isLast: true) }
      count(id, web)
    }
  }

  /// Hands the documents of a stream's body on, one message each.
  private mutating func pump(_ id: CallID, _ web: WebCall, _ route: Route, isLast: Bool) {
    do throws(BadRequest) {
      while !web.isSatisfied, let document = try web.documents.next(isLast: isLast) {
        let message = try encodeBody(document, as: route.request)
        guard openCall(id, web, route) else { return }
        services.receive(id, message.rawSpan, out: &out)
        if !route.method.isClientStreaming { web.isSatisfied = true }
      }
      guard isLast || web.isSatisfied else { return }
      if !web.isOpen {
        guard openCall(id, web, route) else { return }
        if !route.method.isClientStreaming { services.receive(id, RawSpan(), out: &out) }
      }
    } catch {
      // As etcd does it: what goes before a bad document counts, what follows is lost.
      web.isSatisfied = true
      guard web.isOpen else {
        let code: StatusCode = route.method.isClientStreaming ? .unknown : .invalidArgument
        return answerWeb(id, web, Status(code, error.text))
      }
    }
    web.isSatisfied = true
    services.halfClosed(id, out: &out)
  }

  /// Opens the call with the services, once. False: its headers are wrong, and it was answered.
  private mutating func openCall(_ id: CallID, _ web: WebCall, _ route: Route) -> Bool {
    guard !web.isOpen else { return true }
    var timeout: UInt64?
    if let text = web.request.header("grpc-timeout") {
      let bytes = Array(text.utf8)
      timeout = timeoutNanoseconds(bytes.rawSpan)
      if timeout == nil {
        answerWeb(id, web, Status(.invalidArgument, "invalid grpc-timeout: \(text)"))
        return false
      }
    }
    let version = Array((web.metadata("client-api-version") ?? "").utf8)
    clients.note(version.rawSpan, route.method)
    let token = web.metadata("token") ?? web.request.header("authorization") ?? ""
    services.open(
      id, route.method, needsLeader: web.metadata("hasleader") == "true", timeout: timeout,
      token: Array(token.utf8), out: &out)
    web.isOpen = true
    return true
  }

  // MARK: Health

  /// Goes on with a probe: what needs no answer of others is decided here.
  mutating func probe(_ id: CallID, _ web: WebCall) {
    guard case .probe(var probe) = web.task else { return }
    let board = shared.board.withLock { $0 }
    while let check = probe.next {
      if let isSerializable = check.read {
        web.task = .probe(probe)
        services.probe(id, isSerializable: isSerializable, out: &out)
        return
      }
      probe.note(check.verdict(board, probe.excluded))
    }
    web.task = .probe(probe)
    let answer = probe.answer(shared.metrics, shared.log)
    answerWeb(id, web, answer)
  }

  /// Takes what became of a probe's read, and goes on under another number.
  private mutating func probed(_ id: CallID, _ web: WebCall, _ failure: String?) {
    guard case .probe(var probe) = web.task, let call = end(id) else { return }
    probe.note(failure)
    web.task = .probe(probe)
    var session: Session?
    if case .http2(let its) = call.connection.speaker { session = its }
    self.probe(insert(web, call.connection, session), web)
  }

  // MARK: Answers

  /// The one message of a call that went well.
  mutating func answerWeb(_ id: CallID, _ web: WebCall, _ message: [UInt8]) {
    switch web.task {
    case .answer: break
    case .probe: probed(id, web, nil)
    case .stream(let route):
      guard let call = calls[id] else { return }
      sendWeb(id, call, web, message)
      if calls.contains(id) { finishStream(id, web) }
      _ = route
    case .unary(let route):
      var text: [UInt8] = []
      do throws(Unreadable) {
        try appendJSON(message.rawSpan, as: route.response, to: &text)
      } catch {
        return answerWeb(id, web, Status(.internalError, "the answer could not be written as JSON"))
      }
      var answer = WebAnswer.json(200, text)
      answer.headers = Self.metadata
      answerWeb(id, web, answer)
    }
  }

  /// What grpc-gateway says of the call that it made.
  private static let metadata = [(name: "Grpc-Metadata-Content-Type", value: "application/grpc")]

  private mutating func answerWeb(_ id: CallID, _ web: WebCall, _ status: Status) {
    if web.isOpen { services.cancelled(id, out: &out) }
    answerWeb(id, web, .json(httpStatus(status.code), failureBody(status)))
  }

  /// A whole answer.
  mutating func answerWeb(_ id: CallID, _ web: WebCall, _ answer: WebAnswer) {
    guard let call = end(id) else { return }
    let connection = call.connection
    web.body = []
    web.isSatisfied = true
    if web.isWebSocket {
      connection.call = nil
      WebSocketFrame.text.append(answer.body.rawSpan, to: &connection.output)
      return closeWebSocket(connection, 1000)
    }
    switch connection.speaker {
    case .http2(let session):
      session.respond(
        call.stream, status: answer.status, fields: fields(web, answer.contentType, answer.headers),
        body: answer.body.rawSpan)
      crowd(connection, session)
    default:
      var head = ResponseHead(
        status: answer.status, contentType: answer.contentType,
        keepsAlive: web.request.keepsAlive && !connection.parser.isStreaming,
        isOld: web.request.isOld)
      head.headers = web.fields + answer.headers
      head.append(
        body: answer.body.rawSpan, isHead: web.request.method == "HEAD", to: &connection.output)
      release(connection, keepsAlive: head.keepsAlive)
    }
    mark(connection)
  }

  private func fields(
    _ web: WebCall, _ contentType: String, _ headers: [(name: String, value: String)]
  ) -> [(name: String, value: String)] {
    let type = contentType.isEmpty ? [] : [(name: "content-type", value: contentType)]
    return type + web.fields + headers
  }

  /// Lets the next request of HTTP/1.1 have its turn, or ends the connection.
  private mutating func release(_ connection: Connection, keepsAlive: Bool) {
    connection.call = nil
    connection.isCongested = false
    if keepsAlive { resumable.append(connection) } else { connection.end() }
  }

  /// One message of a stream: a chunk of its own.
  mutating func sendWeb(_ id: CallID, _ call: OpenCall, _ web: WebCall, _ message: [UInt8]) {
    guard case .stream(let route) = web.task else { return }
    var text: [UInt8] = []
    do throws(Unreadable) {
      try appendChunk(message.rawSpan, as: route.response, to: &text)
    } catch {
      return finishWeb(id, web, Failure(.internalError, "the answer could not be written as JSON"))
    }
    begin(call, web, status: 200, headers: Self.metadata)
    write(call, web, text)
    if !isWritable(call) { services.writable(id, false) }
  }

  private func begin(
    _ call: OpenCall, _ web: WebCall, status: Int, headers: [(name: String, value: String)]
  ) {
    guard !web.hasBegun, !web.isWebSocket else { return }
    web.hasBegun = true
    switch call.connection.speaker {
    case .http2(let session):
      session.beginResponse(
        call.stream, status: status, fields: fields(web, "application/json", headers))
    default:
      let request = web.request
      var head = ResponseHead(
        status: status, contentType: "application/json",
        keepsAlive: request.keepsAlive && !request.isOld, isOld: request.isOld)
      head.headers = web.fields + headers
      head.appendStreaming(to: &call.connection.output)
    }
  }

  private mutating func write(_ call: OpenCall, _ web: WebCall, _ text: [UInt8]) {
    if web.isWebSocket {
      let line = text.last == UInt8(ascii: "\n") ? Array(text.dropLast()) : text
      WebSocketFrame.text.append(line.rawSpan, to: &call.connection.output)
      return mark(call.connection)
    }
    switch call.connection.speaker {
    case .http2(let session): session.send(call.stream, text.rawSpan)
    default: chunks(web).append(piece: text.rawSpan, to: &call.connection.output)
    }
    mark(call.connection)
  }

  /// How the chunks of a streamed answer are framed.
  private func chunks(_ web: WebCall) -> ResponseHead {
    ResponseHead(status: 200, contentType: "", keepsAlive: false, isOld: web.request.isOld)
  }

  /// The end of a call that the services ended.
  mutating func finishWeb(_ id: CallID, _ web: WebCall, _ failure: Failure?) {
    switch web.task {
    case .probe: return probed(id, web, failure?.text ?? "no answer")
    case .answer: return
    case .unary:
      let status = failure.map(Status.init) ?? Status(.internalError, "no answer")
      return answerWeb(id, web, status)
    case .stream: break
    }
    guard let failure else { return finishStream(id, web) }
    guard let call = calls[id] else { return }
    let status = Status(failure)
    begin(call, web, status: httpStatus(status.code), headers: [])
    write(call, web, failureChunk(status, phrase: reasonPhrase(httpStatus(status.code))))
    services.cancelled(id, out: &out)
    finishStream(id, web)
  }

  /// Ends all calls of a connection that are not gRPC's.
  mutating func finishWeb(of connection: Connection, _ failure: Failure) {
    var ids: [CallID] = []
    if let id = connection.call { ids.append(id) }
    if case .http2(let session) = connection.speaker {
      session.forEachTag { ids.append(CallID($0 - 1)) }
    }
    for id in ids {
      if let web = calls[id]?.web { finishWeb(id, web, failure) }
    }
  }

  private mutating func finishStream(_ id: CallID, _ web: WebCall) {
    guard let call = end(id) else { return }
    begin(call, web, status: 200, headers: [])
    web.isSatisfied = true
    if web.isWebSocket {
      call.connection.call = nil
      return closeWebSocket(call.connection, 1000)
    }
    switch call.connection.speaker {
    case .http2(let session): session.endResponse(call.stream)
    default:
      chunks(web).appendEnd(to: &call.connection.output)
      let request = web.request
      release(
        call.connection,
        keepsAlive: request.keepsAlive && !request.isOld && !call.connection.parser.isStreaming)
    }
    mark(call.connection)
  }

  // MARK: Flow

  /// Whether more of a streamed answer may be queued; `relieve` tells of the change.
  func isWritable(_ call: OpenCall) -> Bool {
    if case .http2(let session) = call.connection.speaker { return session.isWritable(call.stream) }
    guard call.connection.waitingBytes >= Connection.Limits.outputBytes else { return true }
    call.connection.isCongested = true
    return false
  }

  /// Has the reads of a connection wait when too many answers do.
  mutating func crowd(_ connection: Connection, _ session: Session) {
    guard !connection.isCrowded, session.queuedBytes > Connection.Limits.crowdedBytes
    else { return }
    connection.isCrowded = true
    crowdedCount += 1
  }

  mutating func disperse(_ connection: Connection) {
    connection.isCrowded = false
    crowdedCount -= 1
    services.roomMade()
    shared.loops[number].wakeup.signal()
  }

  /// Lets a stream of HTTP/1.1, or the reads of HTTP/2, go on when the client has read enough.
  mutating func relieve(_ connection: Connection) {
    if connection.isCrowded, case .http2(let session) = connection.speaker,
      session.queuedBytes <= Connection.Limits.crowdedBytes / 2
    {
      disperse(connection)
    }
    guard connection.isCongested, connection.waitingBytes < Connection.Limits.outputBytes / 2,
      let id = connection.call
    else { return }
    connection.isCongested = false
    services.writable(id, true)
    if !snapshots.isEmpty { forwardSnapshot(id) }
    shared.loops[number].wakeup.signal()
  }

  /// Serves the requests of HTTP/1.1 that waited for the one before.
  mutating func resume() {
    var rounds = 0
    while !resumable.isEmpty, rounds < 64 {
      rounds += 1
      let waiting = resumable.filter { $0.hasPausedRequests && connections[$0.token] != nil }
      resumable.removeAll(keepingCapacity: true)
      guard !waiting.isEmpty else { return }
      for connection in waiting { serveHTTP1(connection) }
      services.flush(out: &out)
      deliver()
    }
    if !resumable.isEmpty { shared.loops[number].wakeup.signal() }
  }
}

extension Status {
  /// What a call came to, as gRPC says it.
  init(_ failure: Failure) {
    self.init(StatusCode(rawValue: Int32(failure.code.rawValue)) ?? .unknown, failure.text)
  }
}
