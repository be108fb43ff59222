internal import Basics
internal import CNGHTTP2

// nghttp2's callbacks: each finds its Session in the user data and returns a code.

private func owner(_ data: UnsafeMutableRawPointer?) -> Session {
  unsafe Unmanaged<Session>.fromOpaque(data!).takeUnretainedValue()
}

func onBeginHeaders(
  _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let session = unsafe owner(data)
  let stream = unsafe frame!.pointee.hd.stream_id
  let isRequest = unsafe frame!.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
  if isRequest { session.streams[stream] = Session.Stream() }
  session.block = Session.Block()
  session.block.isOpen = true
  session.block.start = session.fields.count
  session.block.isTrailer = !isRequest
  return 0
}

func onHeader(
  _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ name: UnsafePointer<UInt8>?,
  _ nameCount: Int, _ value: UnsafePointer<UInt8>?, _ valueCount: Int, _: UInt8,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let session = unsafe owner(data)
  let name = unsafe UnsafeBufferPointer(start: name, count: nameCount)
  let value = unsafe UnsafeBufferPointer(start: value, count: valueCount)
  session.block.size += nameCount + valueCount + 32
  guard session.block.size <= Session.Limits.headerBytes else {
    session.block.isOpen = false
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }
  session.block.check(unsafe name.span, unsafe value.span)
  if session.block.isTrailer || session.block.isMalformed { return 0 }
  let start = session.eventBytes.count
  unsafe session.eventBytes.append(contentsOf: name)
  unsafe session.eventBytes.append(contentsOf: value)
  session.fields.append(
    Session.Field(
      name: Slice(start: start, count: nameCount),
      value: Slice(start: start + nameCount, count: valueCount)))
  return 0
}

func onFrame(
  _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let session = unsafe owner(data)
  let head = unsafe frame!.pointee.hd
  if UInt32(head.type) == NGHTTP2_HEADERS.rawValue { session.block.isOpen = false }
  let ends = UInt32(head.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
  guard session.streams[head.stream_id] != nil || head.stream_id == 0 else { return 0 }
  switch UInt32(head.type) {
  case NGHTTP2_HEADERS.rawValue:
    let isTrailer = session.block.isTrailer
    guard !session.block.isMalformed, isTrailer ? ends : session.block.isWholeRequest else {
      session.reset(head.stream_id, code: NGHTTP2_PROTOCOL_ERROR.rawValue)
      return 0
    }
    if !isTrailer {
      session.events.append(
        .headers(stream: head.stream_id, fields: session.block.start..<session.fields.count))
    }
    if ends { session.events.append(.endOfStream(stream: head.stream_id)) }
  case NGHTTP2_DATA.rawValue:
    if ends { session.events.append(.endOfStream(stream: head.stream_id)) }
  case NGHTTP2_PING.rawValue:
    session.pinged(isAnswer: UInt32(head.flags) & NGHTTP2_FLAG_ACK.rawValue != 0)
  default:
    break
  }
  return 0
}

func onData(
  _: OpaquePointer?, _: UInt8, _ stream: Int32, _ bytes: UnsafePointer<UInt8>?, _ count: Int,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let session = unsafe owner(data)
  let start = session.eventBytes.count
  unsafe session.eventBytes.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
  session.events.append(.data(stream: stream, bytes: Slice(start: start, count: count)))
  return 0
}

func onSent(
  _ nghttp2: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let head = unsafe frame!.pointee.hd
  let type = UInt32(head.type)
  guard type == NGHTTP2_DATA.rawValue || type == NGHTTP2_HEADERS.rawValue else { return 0 }
  unsafe owner(data).guards.hasSentSincePing = true
  // The answer is whole while the client still sends: it is told to stop (RFC 9113 §8.1).
  if UInt32(head.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
    unsafe nghttp2_session_get_stream_remote_close(nghttp2, head.stream_id) == 0
  {
    unsafe nghttp2_submit_rst_stream(nghttp2, 0, head.stream_id, NGHTTP2_NO_ERROR.rawValue)
  }
  return 0
}

func onClose(
  _: OpaquePointer?, _ stream: Int32, _ code: UInt32, _ data: UnsafeMutableRawPointer?
) -> Int32 {
  unsafe owner(data).closed(stream, code: code)
  return 0
}

func readBody(
  _: OpaquePointer?, _ stream: Int32, _ buffer: UnsafeMutablePointer<UInt8>?, _ capacity: Int,
  _ flags: UnsafeMutablePointer<UInt32>?, _: UnsafeMutablePointer<nghttp2_data_source>?,
  _ data: UnsafeMutableRawPointer?
) -> Int {
  unsafe owner(data).fill(stream, buffer!, capacity, flags!)
}
