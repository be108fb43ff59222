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
    if !isFine { connection.isEnding = true }
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
        if let old = connection.streams.removeValue(forKey: stream),
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
        plain: (head.text(head.method), head.text(head.path), ""))
      return
    }
    if let refusal = head.refusal() {
      session.finishGRPC(
        stream, status: refusal.code.rawValue, message: refusal.encodedMessage)
      return
    }
    guard let method = Method(path: session.eventBytes.rawSpan.extracting(head.path)) else {
      let status = Head.unknown(head.text(head.path))
      session.finishGRPC(stream, status: status.code.rawValue, message: status.encodedMessage)
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
    guard var state = connection.streams[stream], state.plain == nil else { return }
    let arena = session.eventBytes
    let chunk = arena.rawSpan.extracting(slice)
    var offset = 0
    loop: while true {
      switch state.reader.next(in: chunk, from: &offset) {
      case .message(let message, let isHeld):
        let held = isHeld ? state.reader.held : arena
        let body = (isHeld ? held.rawSpan : chunk).extracting(message.body)
        do throws(Status) {
          try take(body, message.isCompressed, state)
        } catch {
          refuse(connection, session, stream, state.call, error)
          return
        }
      case .needsMore: break loop
      case .refused(let status):
        refuse(connection, session, stream, state.call, status)
        return
      }
    }
    connection.streams[stream]?.reader = state.reader
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
    connection.streams[stream] = nil
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
    connection.streams[stream] = nil
    let answer = Endpoints.answer(plain.method, plain.path, plain.query, shared)
    session.respond(
      stream, status: answer.status, contentType: answer.contentType, body: answer.body.rawSpan)
    mark(connection)
  }

  // MARK: HTTP/1.1

  func receiveHTTP1(_ connection: Connection, _ bytes: RawSpan) {
    connection.parser.receive(bytes)
    while !connection.isEnding {
      do throws(Refusal) {
        guard let request = try connection.parser.next() else { break }
        let answer = Endpoints.answer(request.method, request.path, request.query, shared)
        appendResponse(
          status: answer.status, contentType: answer.contentType, body: answer.body.rawSpan,
          keepsAlive: request.keepsAlive, to: &connection.output)
        if !request.keepsAlive { connection.isEnding = true }
      } catch {
        let body = Array((error.reason + "\n").utf8)
        appendResponse(
          status: error.status, contentType: "text/plain; charset=utf-8", body: body.rawSpan,
          keepsAlive: false, to: &connection.output)
        connection.isEnding = true
      }
    }
    if connection.parser.wantsContinue {
      connection.output += Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)
    }
    mark(connection)
  }
}

/// The header fields of a request that matter here.
struct Head {
  private let arena: [UInt8]
  var method = Slice.empty
  var path = Slice.empty
  var token = Slice.empty
  var timeout: UInt64?
  var needsLeader = false
  var isGRPC = false
  private var encoding = Slice.empty

  init(_ session: Session, _ range: Range<Int>) {
    let arena = session.eventBytes
    self.arena = arena
    for field in session.fields[range] {
      let name = arena.rawSpan.extracting(field.name)
      switch name.byteCount {
      case 5 where Self.matches(name, ":path"): path = field.value
      case 7 where Self.matches(name, ":method"): method = field.value
      case 12 where Self.matches(name, "content-type"):
        isGRPC = Self.begins(arena.rawSpan.extracting(field.value), "application/grpc")
      case 12 where Self.matches(name, "grpc-timeout"):
        timeout = timeoutNanoseconds(arena.rawSpan.extracting(field.value))
      case 9 where Self.matches(name, "hasleader"):
        needsLeader = Self.matches(arena.rawSpan.extracting(field.value), "true")
      case 5 where Self.matches(name, "token"): token = field.value
      case 13 where Self.matches(name, "authorization") && token.isEmpty: token = field.value
      case 13 where Self.matches(name, "grpc-encoding"): encoding = field.value
      default: break
      }
    }
  }

  func text(_ slice: Slice) -> String { String(decoding: arena[slice.range], as: UTF8.self) }
  func bytes(_ slice: Slice) -> [UInt8] { slice.isEmpty ? [] : Array(arena[slice.range]) }

  private static func matches(_ bytes: RawSpan, _ text: StaticString) -> Bool {
    bytes.byteCount == text.utf8CodeUnitCount && begins(bytes, text)
  }

  private static func begins(_ bytes: RawSpan, _ text: StaticString) -> Bool {
    guard bytes.byteCount >= text.utf8CodeUnitCount else { return false }
    for i in 0..<text.utf8CodeUnitCount where unsafe bytes[i] != text.utf8Start[i] { return false }
    return true
  }

  static let compressed = Status(
    .internalError, "grpc: compressed flag set with identity or empty encoding")

  var isGzip: Bool { text(encoding) == "gzip" }

  /// Why the call cannot be taken at all.
  func refusal() -> Status? {
    guard !encoding.isEmpty, text(encoding) != "identity", !isGzip else { return nil }
    return Status(
      .unimplemented,
      "grpc: Decompressor is not installed for grpc-encoding \"\(text(encoding))\"")
  }

  /// grpc-go's words for a path that is not served.
  static func unknown(_ path: String) -> Status {
    let parts = path.dropFirst().split(
      separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard path.hasPrefix("/"), parts.count == 2 else {
      return Status(.unimplemented, "malformed method name: \"\(path)\"")
    }
    let prefix = "/\(parts[0])/"
    let isKnown = Method.allCases.contains { String(describing: $0.path).hasPrefix(prefix) }
    return isKnown
      ? Status(.unimplemented, "unknown method \(parts[1]) for service \(parts[0])")
      : Status(.unimplemented, "unknown service \(parts[0])")
  }
}
