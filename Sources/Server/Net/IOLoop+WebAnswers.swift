internal import Basics
internal import GRPC
internal import Gateway
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Replica
internal import Services

/// What requests without gRPC are answered with, whole or piece by piece as the client reads.
extension IOLoop {
  /// The one message of a call that went well.
  mutating func answerWeb(_ id: CallID, _ web: WebCall, _ message: [UInt8]) {
    switch web.task {
    case .answer: break
    case .probe: probed(id, web, nil)
    case .stream:
      guard let call = calls[id] else { return }
      sendWeb(id, call, web, message)
      if calls.contains(id) { finishStream(id, web) }
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

  mutating func answerWeb(_ id: CallID, _ web: WebCall, _ status: Status) {
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
    while !resumable.isEmpty, rounds < Limits.roundsPerWake {
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
