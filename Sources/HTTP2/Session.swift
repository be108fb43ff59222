public import Basics
internal import CNGHTTP2

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

  /// A stream, and where the session keeps it until `clearEvents` follows its end.
  public struct StreamPlace: Sendable {
    public var stream: Int32
    public var place: Int
  }

  public enum Event: Sendable {
    /// A request's header block is complete; its fields are `fields[range]`.
    case headers(StreamPlace, fields: Range<Int>)
    case data(StreamPlace, bytes: Slice)
    /// The client will send nothing more on the stream.
    case endOfStream(StreamPlace)
    /// The stream is over, whole or reset; nothing can be sent on it any more.
    case closed(StreamPlace, code: UInt32)
    /// The send queue of a stream fell under `Limits.sendQueueBytes` again.
    case writable(StreamPlace)
  }

  public enum Limits {
    /// Bytes queued on one stream above which it does not count as writable.
    public static let sendQueueBytes = 1 << 20
    /// What a client may send on one stream, or one connection, before it is read.
    public static let windowBytes: Int32 = 1 << 20
    /// A request's header block: names, values and 32 bytes a field (RFC 9113 §6.5.2).
    public static let headerBytes = 16 << 10
    /// Streams that may end in an error before they were answered, at once and a second
    /// (CVE-2023-44487, CVE-2025-8671). Calls that clients cancel count, so it leaves room.
    public static let earlyResetsBurst = 1000
    public static let earlyResetsPerSecond: UInt64 = 100
    /// Bytes of events that are kept allocated between two calls of `receive`.
    static let keptBytes = 64 << 10
    /// Bytes of a stream's queue that are kept allocated for the next stream.
    static let keptQueueBytes = 4 << 10
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

  /// What is known of the header block that is being read.
  struct Block {
    var isOpen = false
    var start = 0
    var size = 0
    var isTrailer = false
    var isMalformed = false
    var hasRegular = false
    /// One bit each for :method, :scheme, :path and :authority.
    var pseudo: UInt8 = 0
  }

  struct Stream {
    var id: Int32 = 0
    /// The owner's own number for the stream.
    var tag: UInt64 = 0
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

  /// What nghttp2's callbacks change.
  struct State {
    var events: [Event] = []
    var eventBytes: [UInt8] = []
    var fields: [Field] = []
    var now: UInt64 = 0
    var queuedBytes = 0
    var unansweredPings = 0
    /// Reused by later streams, with their queues' memory.
    var streams: [Stream] = []
    var freePlaces: [Int] = []
    /// Freed when their `closed` events have been handled.
    var closedPlaces: [Int] = []
    var openStreams = 0
    var pingIntervalMin: UInt64 = 0
    var streamsMax = 0
    var block = Block()
    var guards = Guards()
  }

  /// In memory of its own, nghttp2's user data, so that callbacks reach it without the cost of
  /// a class's property. Never held open across a call of nghttp2 that calls back.
  private let memory: UnsafeMutablePointer<State>
  let session: OpaquePointer
  let settings: Settings
  private let pool: Pool
  private var hasToldLimit = false

  var state: State {
    _read { yield unsafe memory.pointee }
    _modify { yield unsafe &memory.pointee }
  }

  public var events: [Event] { state.events }
  public var eventBytes: [UInt8] { state.eventBytes }
  public var fields: [Field] { state.fields }
  /// Set by the owner before `receive`: monotonic ns.
  public var now: UInt64 {
    get { state.now }
    set { state.now = newValue }
  }
  /// Bytes in the send queues of all streams.
  public var queuedBytes: Int { state.queuedBytes }
  /// Frames that wait to be written, but for those of bodies.
  public var queuedFrames: Int { unsafe nghttp2_session_get_outbound_queue_size(session) }
  public var unansweredPings: Int { state.unansweredPings }
  public var openStreams: Int { state.openStreams }

  /// `pool`: the thread's.
  public init(settings: Settings, pool: Pool) {
    self.settings = settings
    self.pool = pool
    unsafe memory = .allocate(capacity: 1)
    unsafe memory.initialize(to: State())
    unsafe memory.pointee.pingIntervalMin = settings.pingIntervalMin
    unsafe memory.pointee.streamsMax = Int(settings.streamsMax)
    var callbacks: OpaquePointer?
    unsafe nghttp2_session_callbacks_new(&callbacks)
    unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, onBeginHeaders)
    unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks, onHeader)
    unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, onFrame)
    unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, onData)
    unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, onClose)
    unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, onSent)
    var option: OpaquePointer?
    unsafe nghttp2_option_new(&option)
    // grpc-go sends authorities that are no valid host, which nghttp2's checks refuse; `Block`
    // makes the others.
    unsafe nghttp2_option_set_no_http_messaging(option, 1)
    unsafe nghttp2_option_set_max_send_header_block_length(option, Limits.headerBytes * 4)
    unsafe nghttp2_option_set_max_settings(option, 32)
    unsafe nghttp2_option_set_max_outbound_ack(option, 1000)
    // Else as many closed streams are kept, for their priorities, as may be open: without limit.
    unsafe nghttp2_option_set_no_closed_streams(option, 1)
    // A client that ends many short watches resets streams at more than nghttp2's 33 a second.
    unsafe nghttp2_option_set_stream_reset_rate_limit(option, 10_000, 1000)
    var made: OpaquePointer?
    unsafe nghttp2_session_server_new3(&made, callbacks, memory, option, pool.memory)
    unsafe session = made!
    unsafe nghttp2_option_del(option)
    unsafe nghttp2_session_callbacks_del(callbacks)
    // nghttp2 ends the connection of a client that opens more streams than it was told; grpc-go
    // refuses the stream alone. So the true limit is written into the frame: `tellLimit`.
    var entries = [
      nghttp2_settings_entry(
        settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue), value: .max),
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

  deinit {
    unsafe nghttp2_session_del(session)
    unsafe memory.deinitialize(count: 1)
    unsafe memory.deallocate()
  }

  /// Takes bytes of the connection. False: the client broke the protocol; what `output` still
  /// gives (a GOAWAY) goes out and the connection is closed.
  public func receive(_ bytes: RawSpan) -> Bool {
    let taken = unsafe bytes.withUnsafeBytes {
      unsafe nghttp2_session_mem_recv(
        session, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), $0.count)
    }
    return taken >= 0 && !state.guards.isCondemned
  }

  /// Forgets what was handled; the fields of a header block that is half read stay.
  public func clearEvents() { state.clearEvents() }

  /// Appends what is to be sent now, up to about `limit` bytes.
  public func output(into bytes: inout [UInt8], limit: Int) {
    while bytes.count < limit {
      var pointer: UnsafePointer<UInt8>?
      let count = unsafe nghttp2_session_mem_send(session, &pointer)
      guard count > 0, let from = unsafe pointer else { return }
      let start = bytes.count
      unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: from, count: count))
      if !hasToldLimit { tellLimit(&bytes, start) }
    }
  }

  /// Writes the limit of streams into the first frame, SETTINGS, whose first entry it is.
  private func tellLimit(_ bytes: inout [UInt8], _ start: Int) {
    hasToldLimit = true
    precondition(bytes[start + 3] == 4 && bytes[start + 10] == 3)
    for place in 0..<4 {
      let shift = UInt32(24 - 8 * place)
      bytes[start + 11 + place] = UInt8(truncatingIfNeeded: settings.streamsMax >> shift)
    }
  }

  /// Whether the connection is over: nothing to read or write is left.
  public var isFinished: Bool {
    unsafe nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
  }

  /// The owner's own number for the stream at a place; 0 at first.
  public func tag(_ place: Int) -> UInt64 { state.streams[place].tag }
  public func setTag(_ place: Int, _ tag: UInt64) { state.streams[place].tag = tag }

  /// Calls `body` with the tag of every stream.
  public func forEachTag(_ body: (UInt64) -> Void) {
    for stream in state.streams where stream.id != 0 && stream.tag != 0 { body(stream.tag) }
  }

  /// Where a stream is kept; nil when it is over.
  func place(of stream: Int32) -> Int? {
    guard let data = unsafe nghttp2_session_get_stream_user_data(session, stream) else {
      return nil
    }
    return Int(bitPattern: data) - 1
  }
}
