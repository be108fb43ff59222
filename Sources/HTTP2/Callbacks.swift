internal import Basics
internal import CNGHTTP2

// nghttp2's callbacks: each finds the session's state in the user data and returns a code.

private typealias StatePointer = UnsafeMutablePointer<Session.State>

private func state(_ data: UnsafeMutableRawPointer?) -> StatePointer {
  unsafe data!.assumingMemoryBound(to: Session.State.self)
}

private func place(_ nghttp2: OpaquePointer?, _ stream: Int32) -> Session.StreamPlace? {
  guard let data = unsafe nghttp2_session_get_stream_user_data(nghttp2, stream) else { return nil }
  return Session.StreamPlace(stream: stream, place: Int(bitPattern: data) - 1)
}

func onBeginHeaders(
  _ nghttp2: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let stream = unsafe frame!.pointee.hd.stream_id
  let isRequest = unsafe frame!.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
  let state = unsafe state(data)
  if isRequest {
    if unsafe state.pointee.openStreams >= state.pointee.streamsMax {
      unsafe nghttp2_submit_rst_stream(nghttp2, 0, stream, NGHTTP2_REFUSED_STREAM.rawValue)
      if unsafe state.pointee.refused() {
        unsafe submitGoAway(
          nghttp2, code: NGHTTP2_ENHANCE_YOUR_CALM.rawValue, text: "too_many_resets")
      }
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
    }
    let place = unsafe state.pointee.open(stream)
    unsafe nghttp2_session_set_stream_user_data(
      nghttp2, stream, UnsafeMutableRawPointer(bitPattern: place + 1))
  }
  unsafe state.pointee.beginBlock(isRequest: isRequest)
  return 0
}

func onHeader(
  _: OpaquePointer?, _: UnsafePointer<nghttp2_frame>?, _ name: UnsafePointer<UInt8>?,
  _ nameCount: Int, _ value: UnsafePointer<UInt8>?, _ valueCount: Int, _: UInt8,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let fits = unsafe state(data).pointee.add(
    UnsafeBufferPointer(start: name, count: nameCount),
    UnsafeBufferPointer(start: value, count: valueCount))
  return fits ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
}

func onFrame(
  _ nghttp2: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let head = unsafe frame!.pointee.hd
  let ends = UInt32(head.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
  switch UInt32(head.type) {
  case NGHTTP2_HEADERS.rawValue:
    guard let place = unsafe place(nghttp2, head.stream_id) else {
      unsafe state(data).pointee.block.isOpen = false
      break
    }
    if unsafe !state(data).pointee.endBlock(place, ends: ends) {
      unsafe nghttp2_submit_rst_stream(
        nghttp2, 0, head.stream_id, NGHTTP2_PROTOCOL_ERROR.rawValue)
    }
  case NGHTTP2_DATA.rawValue where ends:
    if let place = unsafe place(nghttp2, head.stream_id) {
      unsafe state(data).pointee.events.append(.endOfStream(place))
    }
  case NGHTTP2_PING.rawValue:
    let isAnswer = UInt32(head.flags) & NGHTTP2_FLAG_ACK.rawValue != 0
    if unsafe state(data).pointee.pinged(isAnswer: isAnswer) {
      unsafe submitGoAway(
        nghttp2, code: NGHTTP2_ENHANCE_YOUR_CALM.rawValue, text: "too_many_pings")
    }
  default:
    break
  }
  return 0
}

func onData(
  _ nghttp2: OpaquePointer?, _: UInt8, _ stream: Int32, _ bytes: UnsafePointer<UInt8>?,
  _ count: Int, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  if let place = unsafe place(nghttp2, stream) {
    unsafe state(data).pointee.add(place, UnsafeBufferPointer(start: bytes, count: count))
  }
  return 0
}

func onSent(
  _ nghttp2: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let head = unsafe frame!.pointee.hd
  let type = UInt32(head.type)
  guard type == NGHTTP2_DATA.rawValue || type == NGHTTP2_HEADERS.rawValue else { return 0 }
  unsafe state(data).pointee.guards.hasSentSincePing = true
  // The answer is whole while the client still sends: it is told to stop (RFC 9113 §8.1).
  if UInt32(head.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
    unsafe nghttp2_session_get_stream_remote_close(nghttp2, head.stream_id) == 0
  {
    unsafe nghttp2_submit_rst_stream(nghttp2, 0, head.stream_id, NGHTTP2_NO_ERROR.rawValue)
  }
  return 0
}

func onClose(
  _ nghttp2: OpaquePointer?, _ stream: Int32, _ code: UInt32, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  guard let place = unsafe place(nghttp2, stream) else { return 0 }
  if unsafe state(data).pointee.closed(place, code: code) {
    unsafe submitGoAway(
      nghttp2, code: NGHTTP2_ENHANCE_YOUR_CALM.rawValue, text: "too_many_resets")
  }
  return 0
}

func readBody(
  _ nghttp2: OpaquePointer?, _ stream: Int32, _ buffer: UnsafeMutablePointer<UInt8>?,
  _ capacity: Int, _ flags: UnsafeMutablePointer<UInt32>?,
  _: UnsafeMutablePointer<nghttp2_data_source>?, _ data: UnsafeMutableRawPointer?
) -> Int {
  guard let place = unsafe place(nghttp2, stream) else {
    return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
  }
  let state = unsafe state(data)
  let count = unsafe state.pointee.fill(place, buffer!, capacity)
  guard unsafe state.pointee.isDrained(place.place) else { return count }
  guard unsafe state.pointee.streams[place.place].isEnding else {
    return count > 0 ? count : Int(NGHTTP2_ERR_DEFERRED.rawValue)
  }
  unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
  if case .grpc(let status, let message) = unsafe state.pointee.streams[place.place].trailers {
    unsafe flags!.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
    unsafe withStatus(status, message) { fields in
      unsafe nghttp2_submit_trailer(nghttp2, stream, fields.baseAddress, fields.count)
    }
  }
  return count
}
