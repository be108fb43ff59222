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
