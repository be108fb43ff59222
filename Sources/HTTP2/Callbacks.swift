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
  if session.streams[stream] == nil { session.streams[stream] = Session.Stream() }
  session.fieldStart = session.fields.count
  return 0
}

func onHeader(
  _: OpaquePointer?, _ frame: UnsafePointer<nghttp2_frame>?, _ name: UnsafePointer<UInt8>?,
  _ nameCount: Int, _ value: UnsafePointer<UInt8>?, _ valueCount: Int, _: UInt8,
  _ data: UnsafeMutableRawPointer?
) -> Int32 {
  let session = unsafe owner(data)
  let start = session.eventBytes.count
  let first = session.fieldStart < session.fields.count
  let blockStart = first ? Int(session.fields[session.fieldStart].name.start) : start
  guard start - blockStart + nameCount + valueCount <= Session.Limits.headerBytes else {
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }
  unsafe session.eventBytes.append(contentsOf: UnsafeBufferPointer(start: name, count: nameCount))
  unsafe session.eventBytes.append(
    contentsOf: UnsafeBufferPointer(start: value, count: valueCount))
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
  let ends = UInt32(head.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
  switch UInt32(head.type) {
  case NGHTTP2_HEADERS.rawValue:
    if unsafe frame!.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
      session.events.append(
        .headers(stream: head.stream_id, fields: session.fieldStart..<session.fields.count))
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
