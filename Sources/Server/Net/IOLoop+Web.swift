internal import Basics
internal import GRPC
internal import Gateway
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Replica
internal import Services

/// Requests without gRPC, over HTTP/1.1 and HTTP/2 alike: from the head to the last byte of the
/// body.
extension IOLoop {
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
  mutating func probed(_ id: CallID, _ web: WebCall, _ failure: String?) {
    guard case .probe(var probe) = web.task, let call = end(id) else { return }
    probe.note(failure)
    web.task = .probe(probe)
    var session: Session?
    if case .http2(let its) = call.connection.speaker { session = its }
    self.probe(insert(web, call.connection, session), web)
  }
}
