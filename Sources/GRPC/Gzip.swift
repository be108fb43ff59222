internal import Basics
internal import CZlib

/// Unpacks a gzip-encoded message of at most `bytesMax` bytes when unpacked. Throws for bytes that
/// are no gzip, or unpack to more: that many are never held.
public func gunzip(_ packed: RawSpan, bytesMax: Int) throws(Status) -> [UInt8] {
  var stream = unsafe z_stream()
  // 15 bits of window, and 16 for gzip's own header.
  guard
    unsafe inflateInit2_(
      &stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
  else { throw Status(.internalError, "grpc: no memory to unpack the message") }
  defer { unsafe inflateEnd(&stream) }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 16 << 10)
  let outcome = unsafe packed.withUnsafeBytes { input -> Int32 in
    unsafe stream.next_in = UnsafeMutablePointer(
      mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
    unsafe stream.avail_in = UInt32(input.count)
    while true {
      let code = unsafe chunk.withUnsafeMutableBufferPointer { room in
        unsafe stream.next_out = room.baseAddress
        unsafe stream.avail_out = UInt32(room.count)
        return unsafe inflate(&stream, Z_NO_FLUSH)
      }
      let count = unsafe chunk.count - Int(stream.avail_out)
      bytes += chunk[..<count]
      if bytes.count > bytesMax || code != Z_OK { return code }
    }
  }
  guard bytes.count <= bytesMax else {
    throw Status(
      .resourceExhausted, "grpc: received message after decompression larger than max \(bytesMax)")
  }
  guard outcome == Z_STREAM_END else {
    throw Status(.internalError, "grpc: failed to decompress the received message")
  }
  return bytes
}
