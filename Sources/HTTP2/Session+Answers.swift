internal import Basics
internal import CNGHTTP2

extension Session {
  /// Queues `bytes` on a stream that was responded to. False: the stream is gone.
  @discardableResult
  public func send(_ stream: Int32, _ bytes: RawSpan) -> Bool {
    guard let at = place(of: stream), !state.streams[at].isEnding else { return false }
    state.enqueue(at, bytes)
    if state.streams[at].isResponded { unsafe nghttp2_session_resume_data(session, stream) }
    return true
  }

  /// The whole answer of a unary call that went well: one message with its prefix, and status OK.
  /// False: the stream is gone.
  @discardableResult
  public func answerGRPC(_ stream: Int32, prefix: RawSpan, message: RawSpan) -> Bool {
    guard let at = place(of: stream), !state.streams[at].isResponded else { return false }
    state.enqueue(at, prefix)
    state.enqueue(at, message)
    state.streams[at].isResponded = true
    state.streams[at].isEnding = true
    state.streams[at].trailers = .grpc(status: 0, message: [])
    unsafe withHead("200", then: nil) { unsafe submit(stream, $0, hasBody: true) }
    return true
  }

  /// Whether the stream's send queue has room.
  public func isWritable(_ stream: Int32) -> Bool {
    guard let at = place(of: stream) else { return false }
    return state.streams[at].waiting < Limits.sendQueueBytes
  }

  /// Opens a gRPC answer: status 200 and gRPC's content type; messages follow by `send`.
  public func respondGRPC(_ stream: Int32) {
    guard let at = place(of: stream), !state.streams[at].isResponded else { return }
    state.streams[at].isResponded = true
    unsafe withHead("200", then: nil) { unsafe submit(stream, $0, hasBody: true) }
  }

  /// Ends a gRPC answer with its status; as trailers alone when nothing was sent before.
  public func finishGRPC(_ stream: Int32, status: Int32, message: [UInt8]) {
    guard let at = place(of: stream), !state.streams[at].isEnding else { return }
    guard state.streams[at].isResponded else {
      return refuseGRPC(stream, httpStatus: 200, status: status, message: message)
    }
    state.streams[at].isEnding = true
    state.streams[at].trailers = .grpc(status: status, message: message)
    unsafe nghttp2_session_resume_data(session, stream)
  }

  /// Refuses a call whose headers are wrong, with an HTTP status that says so too.
  public func refuseGRPC(_ stream: Int32, httpStatus: Int, status: Int32, message: [UInt8]) {
    guard let at = place(of: stream), !state.streams[at].isResponded else { return }
    state.streams[at].isResponded = true
    state.streams[at].isEnding = true
    let code = String(httpStatus)
    unsafe withStatus(status, message) { fields in
      unsafe withHead(code, then: fields) { unsafe submit(stream, $0, hasBody: false) }
    }
  }

  /// A plain answer: `status`, fields such as the content type, and the whole body.
  public func respond(
    _ stream: Int32, status: Int, fields: [(name: String, value: String)], body: RawSpan
  ) {
    beginResponse(stream, status: status, fields: fields)
    send(stream, body)
    endResponse(stream)
  }

  /// Opens a plain answer whose body follows by `send` and ends with `endResponse`.
  public func beginResponse(
    _ stream: Int32, status: Int, fields: [(name: String, value: String)]
  ) {
    guard let at = place(of: stream), !state.streams[at].isResponded else { return }
    state.streams[at].isResponded = true
    unsafe withFields([(":status", String(status))] + fields) {
      unsafe submit(stream, $0, hasBody: true)
    }
  }

  public func endResponse(_ stream: Int32) {
    guard let at = place(of: stream), state.streams[at].isResponded else { return }
    state.streams[at].isEnding = true
    unsafe nghttp2_session_resume_data(session, stream)
  }

  private func submit(
    _ stream: Int32, _ head: UnsafeBufferPointer<nghttp2_nv>, hasBody: Bool
  ) {
    guard hasBody else {
      unsafe nghttp2_submit_response(session, stream, head.baseAddress, head.count, nil)
      return
    }
    var provider = unsafe nghttp2_data_provider()
    unsafe provider.read_callback = readBody
    unsafe nghttp2_submit_response(session, stream, head.baseAddress, head.count, &provider)
  }
}

extension Session.Stream {
  /// Bytes that are queued and not sent.
  var waiting: Int { queue.count - sent }
}

extension Session.State {
  mutating func enqueue(_ at: Int, _ bytes: RawSpan) {
    streams[at].queue.append(contentsOf: bytes)
    queuedBytes += bytes.byteCount
    if streams[at].waiting >= Session.Limits.sendQueueBytes { streams[at].wasFull = true }
  }

  func isDrained(_ at: Int) -> Bool { streams[at].waiting == 0 }

  /// Gives the next bytes of a stream's body to nghttp2.
  mutating func fill(
    _ place: Session.StreamPlace, _ buffer: UnsafeMutablePointer<UInt8>, _ capacity: Int
  ) -> Int {
    let at = place.place
    let count = min(streams[at].waiting, capacity)
    guard count > 0 else { return 0 }
    let sent = streams[at].sent
    unsafe streams[at].queue.withUnsafeBufferPointer {
      unsafe buffer.update(from: $0.baseAddress! + sent, count: count)
    }
    drained(place, count)
    return count
  }

  private mutating func drained(_ place: Session.StreamPlace, _ count: Int) {
    let at = place.place
    streams[at].sent += count
    queuedBytes -= count
    let sent = streams[at].sent
    let total = streams[at].queue.count
    if sent == total {
      streams[at].queue.removeAll(keepingCapacity: total <= Session.Limits.keptQueueBytes)
      streams[at].sent = 0
    } else if sent > 256 << 10, sent > total / 2 {
      streams[at].queue.removeFirst(sent)
      streams[at].sent = 0
    }
    if streams[at].wasFull, streams[at].waiting < Session.Limits.sendQueueBytes / 2 {
      streams[at].wasFull = false
      events.append(.writable(place))
    }
  }
}
