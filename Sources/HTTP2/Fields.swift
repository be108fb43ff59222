internal import CNGHTTP2

// Header fields as nghttp2 takes them. It copies what it is given before the calls return.

typealias Fields = UnsafeBufferPointer<nghttp2_nv>

/// Calls `body` with `:status`, `content-type` and the fields of `then`.
func withHead(
  _ status: String, _ contentType: String = "application/grpc", then: Fields?,
  _ body: (Fields) -> Void
) {
  var status = status
  var contentType = contentType
  status.withUTF8 { status in
    contentType.withUTF8 { contentType in
      unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: 4) { fields in
        unsafe fields.initializeElement(at: 0, to: field(":status", status))
        unsafe fields.initializeElement(at: 1, to: field("content-type", contentType))
        var count = 2
        for i in 0..<(unsafe then?.count ?? 0) {
          unsafe fields.initializeElement(at: count, to: then![i])
          count += 1
        }
        unsafe body(Fields(start: fields.baseAddress, count: count))
      }
    }
  }
}

/// Calls `body` with any fields; names go out in lower case.
func withFields(_ list: [(name: String, value: String)], _ body: (Fields) -> Void) {
  var arena: [UInt8] = []
  for (name, value) in list {
    arena += Array(name.utf8.map { $0 >= 0x41 && $0 <= 0x5a ? $0 + 0x20 : $0 })
    // What would break out of a field is left out.
    arena += Array(value.utf8.filter { $0 >= 0x20 && $0 != 0x7f })
    arena.append(0)
  }
  unsafe arena.withUnsafeMutableBufferPointer { arena in
    var fields: [nghttp2_nv] = unsafe []
    guard var at = arena.baseAddress else { return }
    for (name, value) in list {
      let length = value.utf8.count(where: { $0 >= 0x20 && $0 != 0x7f })
      unsafe fields.append(
        nghttp2_nv(
          name: at, value: at + name.utf8.count, namelen: name.utf8.count, valuelen: length,
          flags: 0))
      unsafe at += name.utf8.count + length + 1
    }
    unsafe fields.withUnsafeBufferPointer { unsafe body($0) }
  }
}

/// Calls `body` with `grpc-status` and `grpc-message`.
func withStatus(_ status: Int32, _ message: [UInt8], _ body: (Fields) -> Void) {
  var code = String(status)
  code.withUTF8 { code in
    unsafe message.withUnsafeBufferPointer { message in
      unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: 2) { fields in
        unsafe fields.initializeElement(at: 0, to: field("grpc-status", code))
        unsafe fields.initializeElement(at: 1, to: field("grpc-message", message))
        unsafe body(Fields(fields))
      }
    }
  }
}

private func field(_ name: StaticString, _ value: UnsafeBufferPointer<UInt8>) -> nghttp2_nv {
  unsafe nghttp2_nv(
    name: UnsafeMutablePointer(mutating: name.utf8Start),
    value: UnsafeMutablePointer(mutating: value.baseAddress),
    namelen: name.utf8CodeUnitCount, valuelen: value.count,
    flags: UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue))
}
