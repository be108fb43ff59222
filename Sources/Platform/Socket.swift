internal import CLinux
internal import Glibc

/// A listening or connected stream socket, non-blocking; closed when dropped.
public struct Socket: ~Copyable, Sendable {
  public let fd: Int32

  private init(fd: Int32) { self.fd = fd }
  deinit { Glibc.close(fd) }

  /// Listens on `host` (an address, `localhost`, or empty for all) and `port` (0: any free).
  public static func listen(
    host: String, port: UInt16, reusesPort: Bool = false
  ) throws(Errno) -> Socket {
    Socket(fd: try check(unsafe martlet_listen_tcp(host, port, reusesPort ? 1 : 0)))
  }

  /// Listens on a Unix socket at `path`, replacing what lies there.
  public static func listen(path: String) throws(Errno) -> Socket {
    Socket(fd: try check(unsafe martlet_listen_unix(path)))
  }

  /// Begins to connect to a numeric address; writable once that has come to its end. Throws
  /// `Errno.notAnAddress` for a name, which `addresses(of:)` finds the addresses of.
  public static func connect(address: String, port: UInt16) throws(Errno) -> Socket {
    Socket(fd: try check(unsafe martlet_connect_tcp(address, port)))
  }

  /// Begins to connect to the Unix socket at `path`.
  public static func connect(path: String) throws(Errno) -> Socket {
    Socket(fd: try check(unsafe martlet_connect_unix(path)))
  }

  /// The numeric addresses of a name, IPv4 first. Waits for DNS, which may take seconds.
  public static func addresses(of name: String) throws(Errno) -> [String] {
    var text = [CChar](repeating: 0, count: 1024)
    let count = try check(unsafe martlet_resolve(name, &text, text.count))
    let bytes = text.map { UInt8(bitPattern: $0) }
    return bytes.split(separator: 0, omittingEmptySubsequences: true).prefix(Int(count)).map {
      String(decoding: $0, as: UTF8.self)
    }
  }

  /// What the connection has failed with; nil when it has not.
  public var failure: Errno? {
    let code = martlet_take_error(fd)
    return code == 0 ? nil : Errno(code)
  }

  /// Takes over a descriptor that nobody else closes.
  public static func adopting(_ fd: Int32) -> Socket { Socket(fd: fd) }

  /// Gives the descriptor away; the caller closes it.
  public consuming func release() -> Int32 {
    let fd = self.fd
    discard self
    return fd
  }

  /// The next connection that waits on `listener`, with Nagle's delay off; nil when there is none.
  public static func accept(on listener: Int32) throws(Errno) -> Socket? {
    let fd = martlet_accept(listener)
    if fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR { return nil }
    let socket = Socket(fd: try check(fd))
    _ = martlet_set_nodelay(socket.fd)
    return socket
  }

  public var port: UInt16 { UInt16(truncatingIfNeeded: martlet_bound_port(fd)) }

  /// `host:port` of the other side, `@` when it has no address, as by a Unix socket.
  public var peerName: String {
    var text = [CChar](repeating: 0, count: 80)
    let count = unsafe martlet_peer_name(fd, &text, text.count)
    guard count > 0 else { return "unknown" }
    return String(decoding: text.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Reads into `buffer`, up to its count; 0 at the end of the stream, nil when nothing waits.
  public func read(into buffer: inout [UInt8]) throws(Errno) -> Int? {
    while true {
      let count = unsafe Glibc.read(fd, &buffer, buffer.count)
      if count >= 0 { return count }
      if errno == EAGAIN { return nil }
      guard errno == EINTR else { throw Errno(errno) }
    }
  }

  /// Writes what the socket takes of `bytes`; 0 when it takes nothing now.
  public func write(_ bytes: RawSpan) throws(Errno) -> Int {
    while true {
      let count = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 { return count }
      if errno == EAGAIN { return 0 }
      guard errno == EINTR else { throw Errno(errno) }
    }
  }

  /// Tells the other side that nothing more comes.
  public func shutDownWriting() { _ = Glibc.shutdown(fd, Int32(SHUT_WR)) }
}
