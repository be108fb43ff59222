internal import CNGHTTP2
internal import Basics

extension Session {
  /// Queues `bytes` on a stream that was responded to. False: the stream is gone.
  @discardableResult
  public func send(_ stream: Int32, _ bytes: RawSpan) -> Bool {
    guard let at = streams.index(forKey: stream), !streams.values[at].isEnding else { return false }
    streams.values[at].queue.append(contentsOf: bytes)
    queuedBytes += bytes.byteCount
    if streams.values[at].queue.count - streams.values[at].sent >= Limits.sendQueueBytes {
      streams.values[at].wasFull = true
    }
    if streams.values[at].isResponded { unsafe nghttp2_session_resume_data(session, stream) }
    return true
  }

  /// Whether the stream's send queue has room.
  public func isWritable(_ stream: Int32) -> Bool {
    guard let state = streams[stream] else { return false }
    return state.queue.count - state.sent < Limits.sendQueueBytes
  }

  /// Opens a gRPC answer: status 200 and gRPC's content type; messages follow by `send`.
  public func respondGRPC(_ stream: Int32) {
    guard let at = streams.index(forKey: stream), !streams.values[at].isResponded else { return }
    streams.values[at].isResponded = true
    var head = unsafe [field(":status", "200"), field("content-type", "application/grpc")]
    unsafe submit(stream, &head, hasBody: true)
  }

  /// Ends a gRPC answer with its status; as trailers alone when nothing was sent before.
  public func finishGRPC(_ stream: Int32, status: Int32, message: [UInt8]) {
    guard let at = streams.index(forKey: stream), !streams.values[at].isEnding else { return }
    streams.values[at].isEnding = true
    if streams.values[at].isResponded {
      streams.values[at].trailers = .grpc(status: status, message: message)
      unsafe nghttp2_session_resume_data(session, stream)
      return
    }
    streams.values[at].isResponded = true
    unsafe withStatus(status, message) { fields in
      var head = unsafe [field(":status", "200"), field("content-type", "application/grpc")]
      unsafe head.append(contentsOf: fields)
      unsafe submit(stream, &head, hasBody: false)
    }
  }

  /// Refuses a call whose headers are wrong, with an HTTP status that says so too.
  public func refuseGRPC(_ stream: Int32, httpStatus: Int, status: Int32, message: [UInt8]) {
    guard let at = streams.index(forKey: stream), !streams.values[at].isResponded else { return }
    streams.values[at].isResponded = true
    streams.values[at].isEnding = true
    let code = Array(String(httpStatus).utf8)
    unsafe code.withUnsafeBufferPointer { code in
      unsafe withStatus(status, message) { fields in
        var head = unsafe [field(":status", code), field("content-type", "application/grpc")]
        unsafe head.append(contentsOf: fields)
        unsafe submit(stream, &head, hasBody: false)
      }
    }
  }

  /// A plain answer: `status`, `contentType` and the whole body.
  public func respond(_ stream: Int32, status: Int, contentType: String, body: RawSpan) {
    beginResponse(stream, status: status, contentType: contentType)
    send(stream, body)
    endResponse(stream)
  }

  /// Opens a plain answer whose body follows by `send` and ends with `endResponse`.
  public func beginResponse(_ stream: Int32, status: Int, contentType: String) {
    guard let at = streams.index(forKey: stream), !streams.values[at].isResponded else { return }
    streams.values[at].isResponded = true
    let code = Array(String(status).utf8)
    let type = Array(contentType.utf8)
    unsafe code.withUnsafeBufferPointer { code in
      unsafe type.withUnsafeBufferPointer { type in
        var head = unsafe [field(":status", code), field("content-type", type)]
        unsafe submit(stream, &head, hasBody: true)
      }
    }
  }

  public func endResponse(_ stream: Int32) {
    guard let at = streams.index(forKey: stream), streams.values[at].isResponded else { return }
    streams.values[at].isEnding = true
    unsafe nghttp2_session_resume_data(session, stream)
  }

  private func submit(_ stream: Int32, _ head: inout [nghttp2_nv], hasBody: Bool) {
    guard hasBody else {
      unsafe nghttp2_submit_response(session, stream, &head, head.count, nil)
      return
    }
    var provider = unsafe nghttp2_data_provider()
    unsafe provider.read_callback = readBody
    unsafe nghttp2_submit_response(session, stream, &head, head.count, &provider)
  }

  /// Gives the next bytes of a stream's body to nghttp2.
  func fill(
    _ stream: Int32, _ buffer: UnsafeMutablePointer<UInt8>, _ capacity: Int,
    _ flags: UnsafeMutablePointer<UInt32>
  ) -> Int {
    guard let at = streams.index(forKey: stream) else {
      return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
    }
    let waiting = streams.values[at].queue.count - streams.values[at].sent
    let count = min(waiting, capacity)
    if count > 0 {
      unsafe streams.values[at].queue.withUnsafeBufferPointer {
        unsafe buffer.update(from: $0.baseAddress! + streams.values[at].sent, count: count)
      }
      drained(at, stream, count)
    }
    guard waiting == count else { return count }
    guard streams.values[at].isEnding else {
      return count > 0 ? count : Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    unsafe flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
    if case .grpc(let status, let message) = streams.values[at].trailers {
      unsafe flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
      unsafe withStatus(status, message) { fields in
        var fields = unsafe fields
        unsafe nghttp2_submit_trailer(session, stream, &fields, fields.count)
      }
    }
    return count
  }

  private func drained(_ at: Dictionary<Int32, Stream>.Index, _ stream: Int32, _ count: Int) {
    streams.values[at].sent += count
    queuedBytes -= count
    let sent = streams.values[at].sent
    let total = streams.values[at].queue.count
    if sent == total {
      streams.values[at].queue.removeAll(keepingCapacity: total <= 16 << 10)
      streams.values[at].sent = 0
    } else if sent > 256 << 10, sent > total / 2 {
      streams.values[at].queue.removeFirst(sent)
      streams.values[at].sent = 0
    }
    let left = streams.values[at].queue.count - streams.values[at].sent
    if streams.values[at].wasFull, left < Limits.sendQueueBytes / 2 {
      streams.values[at].wasFull = false
      events.append(.writable(stream: stream))
    }
  }

  private func withStatus(_ status: Int32, _ message: [UInt8], _ body: ([nghttp2_nv]) -> Void) {
    let code = Array(String(status).utf8)
    unsafe code.withUnsafeBufferPointer { code in
      unsafe message.withUnsafeBufferPointer { message in
        unsafe body([field("grpc-status", code), field("grpc-message", message)])
      }
    }
  }
}

private func field(_ name: StaticString, _ value: StaticString) -> nghttp2_nv {
  unsafe nghttp2_nv(
    name: UnsafeMutablePointer(mutating: name.utf8Start),
    value: UnsafeMutablePointer(mutating: value.utf8Start),
    namelen: name.utf8CodeUnitCount, valuelen: value.utf8CodeUnitCount,
    flags: UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue))
}

private func field(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>) -> nghttp2_nv {
  unsafe nghttp2_nv(
    name: UnsafeMutablePointer(mutating: name.utf8Start),
    value: UnsafeMutablePointer(mutating: value.baseAddress),
    namelen: name.utf8CodeUnitCount, valuelen: value.count,
    flags: UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue))
}
