internal import Basics
internal import CNGHTTP2

/// The client side of one HTTP/2 connection with one gRPC call on it, for tools: bytes in, the
/// answer's messages and status out. No I/O. One thread's.
///
/// A class because nghttp2 holds its state as user data.
@safe public final class ClientCall {
  public enum Limits {
    /// What the server may send before it is read.
    public static let windowBytes: Int32 = 1 << 20
    /// A message of the answer.
    public static let messageBytes = 64 << 20
  }

  /// How the call ended, in gRPC's terms.
  public struct Ending: Equatable, Sendable {
    /// gRPC's code; 14 when the server left without one.
    public var code: Int
    public var text: String
  }

  struct State {
    var request: [UInt8] = []
    var sent = 0
    var received: [UInt8] = []
    var taken = 0
    var code: Int?
    var text: [UInt8] = []
    var isClosed = false
  }

  private let memory: UnsafeMutablePointer<State>
  private let session: OpaquePointer

  /// Calls the method at `path` with one message; `token` is etcd's, empty without users.
  public init(
    path: String, isSecure: Bool, authority: String, message: [UInt8], token: String
  ) {
    unsafe memory = .allocate(capacity: 1)
    unsafe memory.initialize(to: State())
    let count = UInt32(message.count)
    unsafe memory.pointee.request =
      [0] + (0..<4).map { UInt8(truncatingIfNeeded: count >> UInt32(24 - 8 * $0)) } + message
    var callbacks: OpaquePointer?
    unsafe nghttp2_session_callbacks_new(&callbacks)
    unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks, clientHeader)
    unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, clientData)
    unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, clientClose)
    var made: OpaquePointer?
    unsafe nghttp2_session_client_new(&made, callbacks, memory)
    unsafe session = made!
    unsafe nghttp2_session_callbacks_del(callbacks)
    var window = nghttp2_settings_entry(
      settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
      value: UInt32(Limits.windowBytes))
    unsafe nghttp2_submit_settings(session, 0, &window, 1)
    unsafe nghttp2_session_set_local_window_size(session, 0, 0, Limits.windowBytes)
    var fields = [
      (":method", "POST"), (":scheme", isSecure ? "https" : "http"), (":path", path),
      (":authority", authority), ("content-type", "application/grpc"), ("te", "trailers"),
    ]
    if !token.isEmpty { fields.append(("token", token)) }
    submit(fields)
  }

  deinit {
    unsafe nghttp2_session_del(session)
    unsafe memory.deinitialize(count: 1)
    unsafe memory.deallocate()
  }

  private func submit(_ fields: [(String, String)]) {
    var arena: [UInt8] = []
    for (name, value) in fields { arena += Array(name.utf8) + Array(value.utf8) }
    unsafe arena.withUnsafeMutableBufferPointer { bytes in
      var at = bytes.baseAddress!
      var headers: [nghttp2_nv] = unsafe []
      for (name, value) in fields {
        let end = unsafe at + name.utf8.count
        unsafe headers.append(
          nghttp2_nv(
            name: at, value: end, namelen: name.utf8.count, valuelen: value.utf8.count,
            flags: UInt8(NGHTTP2_NV_FLAG_NONE.rawValue)))
        unsafe at = end + value.utf8.count
      }
      var provider = unsafe nghttp2_data_provider()
      unsafe provider.read_callback = clientBody
      unsafe nghttp2_submit_request(
        session, nil, &headers, unsafe headers.count, &provider, nil)
    }
  }

  /// Takes bytes of the connection. False: they are not HTTP/2.
  public func receive(_ bytes: RawSpan) -> Bool {
    let taken = unsafe bytes.withUnsafeBytes {
      unsafe nghttp2_session_mem_recv(
        session, $0.baseAddress?.assumingMemoryBound(to: UInt8.self), $0.count)
    }
    return taken >= 0
  }

  /// Appends what is to be sent now.
  public func output(into bytes: inout [UInt8]) {
    while true {
      var pointer: UnsafePointer<UInt8>?
      let count = unsafe nghttp2_session_mem_send(session, &pointer)
      guard count > 0, let from = unsafe pointer else { return }
      unsafe bytes.append(contentsOf: UnsafeBufferPointer(start: from, count: count))
    }
  }

  /// The next whole message of the answer; nil when none has come. One that is compressed or too
  /// large ends the call.
  public func nextMessage() -> [UInt8]? {
    let state = unsafe memory.pointee
    let left = state.received.count - state.taken
    guard left >= 5 else { return nil }
    let start = state.taken
    let count = state.received[start + 1..<start + 5].reduce(0) { $0 << 8 | Int($1) }
    guard state.received[start] == 0, count <= Limits.messageBytes else {
      unsafe memory.pointee.code = 13
      unsafe memory.pointee.isClosed = true
      return nil
    }
    guard left >= 5 + count else { return nil }
    let message = Array(state.received[start + 5..<start + 5 + count])
    unsafe memory.pointee.taken += 5 + count
    if unsafe memory.pointee.taken == memory.pointee.received.count {
      unsafe memory.pointee.received.removeAll(keepingCapacity: true)
      unsafe memory.pointee.taken = 0
    } else if unsafe memory.pointee.taken > Int(Limits.windowBytes) {
      unsafe memory.pointee.received.removeFirst(memory.pointee.taken)
      unsafe memory.pointee.taken = 0
    }
    return message
  }

  /// How the call ended; nil while it goes on.
  public var ending: Ending? {
    guard unsafe memory.pointee.isClosed else { return nil }
    return Ending(
      code: unsafe memory.pointee.code ?? 14,
      text: String(decoding: unsafe memory.pointee.text, as: UTF8.self))
  }
}

private func state(_ data: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<ClientCall.State> {
  unsafe data!.assumingMemoryBound(to: ClientCall.State.self)
}

private func clientHeader(
  _: OpaquePointer?, _: UnsafePointer<nghttp2_frame>?, _ name: UnsafePointer<UInt8>?,
  _ nameCount: Int, _ value: UnsafePointer<UInt8>?, _ valueCount: Int, _: UInt8,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let name = unsafe String(
    decoding: UnsafeBufferPointer(start: name, count: nameCount), as: UTF8.self)
  let value = unsafe Array(UnsafeBufferPointer(start: value, count: valueCount))
  let state = unsafe state(data)
  switch name {
  case "grpc-status": unsafe state.pointee.code = Int(String(decoding: value, as: UTF8.self))
  case "grpc-message": unsafe state.pointee.text = value
  default: break
  }
  return 0
}

private func clientData(
  _: OpaquePointer?, _: UInt8, _: Int32, _ bytes: UnsafePointer<UInt8>?, _ count: Int,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  unsafe state(data).pointee.received.append(
    contentsOf: UnsafeBufferPointer(start: bytes, count: count))
  return 0
}

private func clientClose(
  _: OpaquePointer?, _: Int32, _: UInt32, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  unsafe state(data).pointee.isClosed = true
  return 0
}

private func clientBody(
  _: OpaquePointer?, _: Int32, _ buffer: UnsafeMutablePointer<UInt8>?, _ capacity: Int,
  _ flags: UnsafeMutablePointer<UInt32>?, _: UnsafeMutablePointer<nghttp2_data_source>?,
  _ data: UnsafeMutableRawPointer?
) -> Int {
  let state = unsafe state(data)
  let sent = unsafe state.pointee.sent
  let total = unsafe state.pointee.request.count
  let count = min(capacity, total - sent)
  unsafe state.pointee.request.withUnsafeBufferPointer {
    unsafe buffer!.update(from: $0.baseAddress! + sent, count: count)
  }
  unsafe state.pointee.sent = sent + count
  if sent + count == total { unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
  return count
}
