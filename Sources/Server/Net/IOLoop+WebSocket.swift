internal import Basics
internal import Gateway
internal import HTTP1
internal import Services
internal import TLS

// The gateway's calls over websockets: a message of the client's is a document of the body, and
// each answer is a message. etcd: grpc-websocket-proxy.
extension IOLoop {
  /// Turns the connection of a request that asks for it into a websocket. False: it does not, or
  /// not for a path of the gateway's.
  mutating func upgrade(_ request: Request, _ connection: Connection) -> Bool {
    guard let key = request.webSocketKey, settings.web.hasGateway, connection.role != .metrics,
      Route(path: request.path) != nil
    else { return false }
    var request = request
    request.method = "POST"
    var lines = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    let accept = Base64.encode(sha1(Array((key + WebSocketFrame.salt).utf8)))
    lines += "Sec-WebSocket-Accept: \(String(decoding: accept, as: UTF8.self))\r\n"
    if let token = request.header("sec-websocket-protocol") {
      // The only field that a page can set: it carries the token.
      lines += "Sec-WebSocket-Protocol: Bearer\r\n"
      let words = token.split(separator: ",").map { $0.filter { $0 != " " } }
      request.headers.append(("authorization", words.last ?? ""))
    }
    let id = open(request, connection, nil, nil)
    guard let web = calls[id]?.web else { return true }
    if case .answer(let answer) = web.task {
      answerWeb(id, web, answer)
      return true
    }
    connection.output += Array((lines + "\r\n").utf8)
    web.isWebSocket = true
    connection.webSocket = WebSocketReader(messageBytesMax: settings.web.bodyBytesMax)
    let rest = connection.parser.takeBuffered()
    if !rest.isEmpty { receiveWebSocket(connection, rest.rawSpan) }
    return true
  }

  mutating func receiveWebSocket(_ connection: Connection, _ bytes: RawSpan) {
    connection.webSocket?.receive(bytes)
    do throws(WebSocketReader.Fault) {
      while let id = connection.call, let web = calls[id]?.web,
        let step = try connection.webSocket?.next()
      {
        switch step {
        case .message(let message):
          receive(id, web, message.rawSpan)
          if calls.contains(id), case .unary = web.task { ended(id, web) }
        case .ping(let bytes):
          WebSocketFrame.pong.append(bytes.rawSpan, to: &connection.output)
        case .closed: closeWebSocket(connection, 1000)
        }
      }
    } catch {
      closeWebSocket(connection, error.status)
    }
    count(connection)
    mark(connection)
  }

  /// Says good-bye, gives up the call if there is one, and ends the connection.
  mutating func closeWebSocket(_ connection: Connection, _ status: UInt16) {
    if let id = connection.call {
      connection.call = nil
      if end(id) != nil { services.cancelled(id, out: &out) }
    }
    let payload = [UInt8(truncatingIfNeeded: status >> 8), UInt8(truncatingIfNeeded: status)]
    WebSocketFrame.close.append(payload.rawSpan, to: &connection.output)
    connection.end()
    mark(connection)
  }
}
