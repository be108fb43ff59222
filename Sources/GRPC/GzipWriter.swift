internal import Basics
internal import CZlib

/// Packs bytes as gzip does, piece by piece. Holds 256 KiB.
@safe public struct GzipWriter: ~Copyable {
  // zlib remembers where its state stands.
  private let stream: UnsafeMutablePointer<z_stream>

  public init() {
    unsafe stream = .allocate(capacity: 1)
    unsafe stream.initialize(to: z_stream())
    // 15 bits of window, and 16 for gzip's own header.
    let code = unsafe deflateInit2_(
      stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
      Int32(MemoryLayout<z_stream>.size))
    precondition(code == Z_OK, "zlib has no memory")
  }

  deinit {
    unsafe deflateEnd(stream)
    unsafe stream.deallocate()
  }

  /// Takes `piece` and adds what is packed by then to `packed`. `isLast`: nothing comes after it.
  public mutating func pack(_ piece: [UInt8], isLast: Bool, into packed: inout [UInt8]) {
    var room = [UInt8](repeating: 0, count: 64 << 10)
    unsafe piece.withUnsafeBufferPointer { input in
      unsafe stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
      unsafe stream.pointee.avail_in = UInt32(input.count)
      var left: UInt32 = 0
      repeat {
        unsafe room.withUnsafeMutableBufferPointer { output in
          unsafe stream.pointee.next_out = output.baseAddress
          unsafe stream.pointee.avail_out = UInt32(output.count)
          _ = unsafe deflate(stream, isLast ? Z_FINISH : Z_NO_FLUSH)
          left = unsafe stream.pointee.avail_out
        }
        packed += room[..<(room.count - Int(left))]
      } while left == 0
    }
  }
}
