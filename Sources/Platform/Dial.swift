internal import Basics
internal import Glibc

/// A connected stream socket that waits for its peer: for tools, never for a server's threads.
public struct DialledSocket: ~Copyable {
  private let fd: Int32

  private init(fd: Int32) { self.fd = fd }
  deinit { _ = Glibc.close(fd) }

  /// Connects to the first address of `host` that answers; a peer that says nothing for
  /// `seconds` fails a read or write.
  public static func open(
    host: String, port: String, seconds: Int
  ) throws(Errno) -> DialledSocket {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var found: UnsafeMutablePointer<addrinfo>?
    guard unsafe getaddrinfo(host, port, &hints, &found) == 0 else { throw Errno(EHOSTUNREACH) }
    defer { unsafe freeaddrinfo(found) }
    var last = Errno(EHOSTUNREACH)
    var next = unsafe found
    while let address = unsafe next {
      let fd = unsafe socket(
        address.pointee.ai_family, address.pointee.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), 0)
      guard fd >= 0 else { throw Errno(errno) }
      var limit = timeval(tv_sec: seconds, tv_usec: 0)
      let size = socklen_t(MemoryLayout<timeval>.size)
      unsafe setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
      unsafe setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
      if unsafe connect(fd, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 {
        return DialledSocket(fd: fd)
      }
      last = Errno(errno)
      _ = Glibc.close(fd)
      unsafe next = address.pointee.ai_next
    }
    throw last
  }

  /// Writes all of `bytes`; EAGAIN when the peer takes nothing for too long.
  public func write(_ bytes: [UInt8]) throws(Errno) {
    var done = 0
    while done < bytes.count {
      let put = unsafe bytes.withUnsafeBytes {
        unsafe send(fd, $0.baseAddress! + done, $0.count - done, Int32(MSG_NOSIGNAL))
      }
      if put < 0 {
        if errno == EINTR { continue }
        throw Errno(errno)
      }
      done += put
    }
  }

  /// Reads what is there into `buffer` and gives its size, after waiting for something; 0 at the
  /// end.
  public func read(into buffer: inout [UInt8]) throws(Errno) -> Int {
    while true {
      let got = unsafe buffer.withUnsafeMutableBytes {
        unsafe recv(fd, $0.baseAddress, $0.count, 0)
      }
      if got >= 0 { return got }
      if errno != EINTR { throw Errno(errno) }
    }
  }
}
