internal import CNGHTTP2
public import Basics

/// The server side of one HTTP/2 connection: bytes in, events and bytes out. No I/O.
///
/// Wraps one nghttp2 session, which is not safe to share: one thread's. `receive` fills
/// `events` (their bytes lie in `eventBytes`); the owner handles them, answers with
/// `respond`, `send` and `finish`, takes `output` and calls `clearEvents`.
///
/// A class because nghttp2 holds it as user data.
@safe public final class Session {
  /// A header field; both slices lie in `eventBytes`, names in lower case.
  public struct Field: Sendable {
    public var name: Slice
    public var value: Slice
  }

  public enum Event: Sendable {
    /// A request's header block is complete; its fields are `fields[range]`.
    case headers(stream: Int32, fields: Range<Int>)
    case data(stream: Int32, bytes: Slice)
    /// The client will send nothing more on the stream.
    case endOfStream(stream: Int32)
    /// The stream is over, whole or reset; nothing can be sent on it any more.
    case closed(stream: Int32, code: UInt32)
    /// The send queue of a stream fell under `Limits.sendQueueBytes` again.
    case writable(stream: Int32)
  }

  public enum Limits {
    /// Bytes queued on one stream above which it does not count as writable.
    public static let sendQueueBytes = 1 << 20
    /// What a client may send on one stream, or one connection, before it is read.
    public static let windowBytes: Int32 = 1 << 20
    public static let headerBytes = 16 << 10
    /// Streams that a client may reset before any was answered (CVE-2023-44487).
    public static let earlyResetsMax = 1000
  }

  public struct Settings: Sendable {
    public var streamsMax: UInt32
    /// Shortest time in ns between pings of a client; 0 asks for none.
    public var pingIntervalMin: UInt64
    public init(streamsMax: UInt32, pingIntervalMin: UInt64) {
      self.streamsMax = streamsMax
      self.pingIntervalMin = pingIntervalMin
    }
  }

  struct Stream {
    var queue: [UInt8] = []
    var sent = 0
    var isResponded = false
    var isEnding = false
    var wasFull = false
    var trailers: Trailers = .none
  }

  enum Trailers {
    case none
    case grpc(status: Int32, message: [UInt8])
  }

  public internal(set) var events: [Event] = []
  public internal(set) var eventBytes: [UInt8] = []
  public internal(set) var fields: [Field] = []
  /// Set by the owner before `receive`: monotonic ns.
  public var now: UInt64 = 0

  var streams: [Int32: Stream] = [:]
  var fieldStart = 0
  private var session: OpaquePointer?
  let settings: Settings
  private var earlyResets = 0
  private var answered = 0
  private var lastPing: UInt64 = 0
  private var pingStrikes = 0
  public private(set) var unansweredPings = 0

  public init(settings: Settings) {
    self.settings = settings
    var callbacks: OpaquePointer?
    unsafe nghttp2_session_callbacks_new(&callbacks)
    unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders)
    unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader)
    unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrame)
    unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData)
    unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onClose)
    var option: OpaquePointer?
    unsafe nghttp2_option_new(&option)
    // grpc-go sends authorities that are no valid host; the checks of RFC 9113 refuse them.
    unsafe nghttp2_option_set_no_http_messaging(option, 1)
    unsafe nghttp2_option_set_max_send_header_block_length(option, Limits.headerBytes * 4)
    unsafe nghttp2_option_set_max_settings(option, 32)
    unsafe nghttp2_option_set_max_outbound_ack(option, 1000)
    unsafe nghttp2_session_server_new2(
      &session, callbacks, Unmanaged.passUnretained(self).toOpaque(), option)
    unsafe nghttp2_option_del(option)
    unsafe nghttp2_session_callbacks_del(callbacks)
    var entries = [
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
        value: settings.streamsMax),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
        value: UInt32(Limits.windowBytes)),
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
        value: UInt32(Limits.headerBytes)),
    ]
    unsafe nghttp2_submit_settings(session, 0, &entries, entries.count)
    unsafe nghttp2_session_set_local_window_size(session, 0, 0, Limits.windowBytes)
  }

  deinit { unsafe nghttp2_session_del(session) }

  /// Takes bytes of the connection. False: the client broke the protocol; what `output` still
  /// gives (a GOAWAY) goes out and the connection is closed.
  public func receive(_ bytes: RawSpan) -> Bool {
    let taken = unsafe bytes.withUnsafeBytes {
      unsafe nghttp2_session_mem_recv(
        session, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), $0.count)
    }
    return taken >= 0 && earlyResets <= Limits.earlyResetsMax
  }

  public func clearEvents() {
    events.removeAll(keepingCapacity: true)
    eventBytes.removeAll(keepingCapacity: true)
    fields.removeAll(keepingCapacity: true)
    fieldStart = 0
  }

  /// Appends what is to be sent now, up to about `limit` bytes.
  public func output(into bytes: inout [UInt8], limit: Int) {
    while bytes.count < limit {
      var pointer: UnsafePointer<UInt8>?
      let count = unsafe nghttp2_session_mem_send(session, &pointer)
      guard count > 0, let from = unsafe pointer else { return }
      unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: from, count: count))
    }
  }

  /// Whether the connection is over: nothing to read or write is left.
  public var isFinished: Bool {
    unsafe nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
  }

  public var openStreams: Int { streams.count }

  // MARK: Pings and the end

  /// Asks the client for a sign of life.
  public func ping() {
    unansweredPings += 1
    unsafe nghttp2_submit_ping(session, 0, nil)
  }

  /// Tells the client to open no more streams, first softly and then for good (RFC 9113 §6.8).
  public func beginShutdown() { unsafe nghttp2_submit_shutdown_notice(session) }

  public func goAway(code: UInt32 = 0, text: StaticString = "") {
    let last = unsafe nghttp2_session_get_last_proc_stream_id(session)
    unsafe nghttp2_submit_goaway(session, 0, last, code, text.utf8Start, text.utf8CodeUnitCount)
  }

  public func reset(_ stream: Int32, code: UInt32) {
    unsafe nghttp2_submit_rst_stream(session, 0, stream, code)
  }

  func pinged(isAnswer: Bool) {
    if isAnswer {
      unansweredPings = 0
      return
    }
    // As grpc-go's enforcement: two strikes are forgiven.
    if settings.pingIntervalMin > 0, lastPing > 0, now &- lastPing < settings.pingIntervalMin {
      pingStrikes += 1
      if pingStrikes > 2 { goAway(code: 11, text: "too_many_pings") }
    }
    lastPing = now
  }

  func closed(_ stream: Int32, code: UInt32) {
    guard let old = streams.removeValue(forKey: stream) else { return }
    if !old.isResponded, code != 0 {
      earlyResets += 1
    } else {
      answered += 1
      if answered & 63 == 0 { earlyResets = 0 }
    }
    events.append(.closed(stream: stream, code: code))
  }

  // MARK: Answers

  /// Queues `bytes` on a stream that was responded to. False: the stream is gone.
  @discardableResult
  public func send(_ stream: Int32, _ bytes: RawSpan) -> Bool {
    guard let at = streams.index(forKey: stream) else { return false }
    streams.values[at].queue.append(contentsOf: bytes)
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

  /// A plain answer: `status`, `contentType` and the whole body.
  public func respond(_ stream: Int32, status: Int, contentType: String, body: RawSpan) {
    guard let at = streams.index(forKey: stream), !streams.values[at].isResponded else { return }
    streams.values[at].isResponded = true
    streams.values[at].isEnding = true
    streams.values[at].queue.append(contentsOf: body)
    let code = Array(String(status).utf8)
    let type = Array(contentType.utf8)
    unsafe code.withUnsafeBufferPointer { code in
      unsafe type.withUnsafeBufferPointer { type in
        var head = unsafe [field(":status", code), field("content-type", type)]
        unsafe submit(stream, &head, hasBody: true)
      }
    }
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
