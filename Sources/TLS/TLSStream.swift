internal import Basics
internal import COpenSSL

/// One TLS connection without its socket: ciphertext in, clear text out, and back.
///
///     let count = try stream.receive(bytes, into: &buffer)   // clear text: buffer[..<count]
///     try stream.send(answer)
///     stream.takeOutput(into: &toBeWritten)                  // after every call, thrown or not
///
/// The handshake goes on by itself as bytes come; `isOpen` tells when it is through. The other
/// side's certificate has been checked by then, so that nothing in clear comes before.
///
/// A class because OpenSSL's callbacks point at it.
@safe public final class TLSStream: @unchecked Sendable {
  // Shared safely: one thread's at a time; a thread that hands it on keeps no reference.
  public enum Limits {
    /// Clear text of one record, and what a record adds to it.
    static let recordBytes = 18 << 10
    /// Output that is kept allocated while nothing waits.
    static let keptBytes = 32 << 10
  }

  private enum State { case handshaking, open, broken }

  /// Whether the handshake is through.
  public var isOpen: Bool { state == .open }
  /// Whether the other side has said that it sends no more.
  public private(set) var hasEnded = false
  public let context: TLSContext

  private let ssl: OpaquePointer
  private var state = State.handshaking
  private var isClosed = false
  private var hasReceived = false
  /// What is lent for the time of `receive`.
  fileprivate var incoming = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
  fileprivate var outgoing: [UInt8] = []
  /// Why our own checks refused the certificate.
  var refusal: String?

  /// The side that was called.
  public static func server(_ context: TLSContext) throws(TLSError) -> TLSStream {
    precondition(context.side == .server)
    let stream = try TLSStream(context)
    unsafe SSL_set_accept_state(stream.ssl)
    return stream
  }

  /// The side that calls: `takeOutput` has its first bytes at once. The server's certificate
  /// must be valid for `host`, a name or an address, if certificates are looked at.
  public static func client(
    _ context: TLSContext, host: String, speaks: [ApplicationProtocol]
  ) throws(TLSError) -> TLSStream {
    precondition(context.side == .client)
    let stream = try TLSStream(context)
    unsafe SSL_set_connect_state(stream.ssl)
    let parameters = unsafe SSL_get0_param(stream.ssl)
    if let address = canonicalAddress(host) {
      try check(unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, address), "address \(host)")
    } else {
      unsafe X509_VERIFY_PARAM_set_hostflags(
        parameters,
        UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
      try check(unsafe X509_VERIFY_PARAM_set1_host(parameters, host, 0), "host \(host)")
      try check(unsafe martlet_tls_set_server_name(stream.ssl, host), "host \(host)")
    }
    let names = speaks.flatMap(\.wire)
    if !names.isEmpty { _ = unsafe SSL_set_alpn_protos(stream.ssl, names, UInt32(names.count)) }
    _ = try stream.shakeHands()
    return stream
  }

  private init(_ context: TLSContext) throws(TLSError) {
    guard let ssl = unsafe SSL_new(context.pointer) else { throw .handshake(takeErrorText()) }
    self.context = context
    unsafe self.ssl = ssl
    let own = unsafe Unmanaged.passUnretained(self).toOpaque()
    guard let pipe = unsafe BIO_new(pipeMethod) else {
      preconditionFailure("OpenSSL has no memory")
    }
    unsafe BIO_set_data(pipe, own)
    unsafe BIO_set_init(pipe, 1)
    unsafe SSL_set_bio(ssl, pipe, pipe)
    unsafe SSL_set_ex_data(ssl, 0, own)
  }

  deinit { unsafe SSL_free(ssl) }

  // MARK: Bytes

  /// Takes what has come from the socket and puts what it says in clear into `buffer`, which
  /// grows when it is too small. Returns how many bytes those are. After it has thrown, the
  /// output that waits still goes out: it tells the other side why.
  public func receive(
    _ ciphertext: RawSpan, into buffer: inout [UInt8]
  ) throws(TLSError) -> Int {
    guard state != .broken, ciphertext.byteCount > 0 else { return 0 }
    if !hasReceived {
      hasReceived = true
      // A handshake (22), or the other side's alert (21); RFC 8446 §5.1.
      guard ciphertext[0] == 22 || ciphertext[0] == 21 else {
        state = .broken
        throw .plainText
      }
    }
    let most = ciphertext.byteCount + Limits.recordBytes
    if buffer.count < most {
      buffer.append(contentsOf: repeatElement(0, count: most - buffer.count))
    }
    do {
      return try unsafe ciphertext.withUnsafeBytes { bytes throws(TLSError) in
        unsafe incoming = bytes
        defer { unsafe incoming = UnsafeRawBufferPointer(start: nil, count: 0) }
        return try read(into: &buffer)
      }
    } catch {
      state = .broken
      throw error
    }
  }

  private func read(into buffer: inout [UInt8]) throws(TLSError) -> Int {
    guard try shakeHands() else { return 0 }
    var total = 0
    while !hasEnded {
      precondition(total < buffer.count, "more clear text than ciphertext")
      var count = 0
      ERR_clear_error()
      let result = unsafe buffer.withUnsafeMutableBytes {
        unsafe SSL_read_ex(ssl, $0.baseAddress! + total, $0.count - total, &count)
      }
      if result == 1 {
        total += count
        continue
      }
      switch unsafe SSL_get_error(ssl, result) {
      case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return total
      case SSL_ERROR_ZERO_RETURN: hasEnded = true
      default: throw .broken(takeErrorText())
      }
    }
    return total
  }

  /// Goes on with the handshake; true when it is through.
  private func shakeHands() throws(TLSError) -> Bool {
    guard state == .handshaking else { return true }
    ERR_clear_error()
    let result = unsafe SSL_do_handshake(ssl)
    if result == 1 {
      state = .open
      return true
    }
    let code = unsafe SSL_get_error(ssl, result)
    if code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE { return false }
    state = .broken
    let text = takeErrorText()
    if let refusal { throw .refused(refusal) }
    let verdict = unsafe SSL_get_verify_result(ssl)
    if verdict != Int(X509_V_OK), context.verifies {
      throw .refused(unsafe String(cString: X509_verify_cert_error_string(verdict)))
    }
    throw .handshake(text)
  }

  /// Seals `plaintext`; only once the handshake is through.
  public func send(_ plaintext: RawSpan) throws(TLSError) {
    precondition(state != .handshaking, "sent before the handshake was through")
    guard state == .open, !isClosed, plaintext.byteCount > 0 else { return }
    ERR_clear_error()
    var count = 0
    let result = unsafe plaintext.withUnsafeBytes {
      unsafe SSL_write_ex(ssl, $0.baseAddress, $0.count, &count)
    }
    // The pipe takes everything: it is written whole or the connection is broken.
    guard result == 1, count == plaintext.byteCount else {
      state = .broken
      throw .broken(takeErrorText())
    }
  }

  /// Tells the other side that nothing more comes.
  public func close() {
    guard state == .open, !isClosed else { return }
    isClosed = true
    _ = unsafe SSL_shutdown(ssl)
    ERR_clear_error()
  }

  public var hasOutput: Bool { !outgoing.isEmpty }

  /// Moves what is to be written to the socket to the end of `output`.
  public func takeOutput(into output: inout [UInt8]) {
    guard !outgoing.isEmpty else { return }
    if output.isEmpty {
      swap(&output, &outgoing)
    } else {
      output.append(contentsOf: outgoing)
    }
    outgoing.removeAll(keepingCapacity: outgoing.capacity <= Limits.keptBytes)
  }

  // MARK: What was agreed

  /// What ALPN came to; nil when the other side does not know of it.
  public var applicationProtocol: ApplicationProtocol? {
    var start: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    unsafe SSL_get0_alpn_selected(ssl, &start, &count)
    guard let start = unsafe start else { return nil }
    let name = unsafe UnsafeBufferPointer(start: start, count: Int(count))
    return unsafe ApplicationProtocol(rawValue: String(decoding: name, as: UTF8.self))
  }

  /// The other side's certificate; nil when it showed none.
  public var peerCertificate: Certificate? {
    guard let certificate = unsafe SSL_get1_peer_certificate(ssl) else { return nil }
    defer { unsafe X509_free(certificate) }
    return unsafe Certificate(certificate)
  }

  /// For a person: `TLSv1.3 TLS_AES_128_GCM_SHA256`.
  public var summary: String {
    let version = unsafe String(cString: SSL_get_version(ssl))
    guard let name = unsafe SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)) else { return version }
    return "\(version) \(unsafe String(cString: name))"
  }
}

// MARK: The pipe under a stream

/// A BIO that reads what `receive` was lent and writes to `outgoing`. Made once.
nonisolated(unsafe) private let pipeMethod: OpaquePointer? = {
  guard let method = unsafe BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "martlet")
  else { return nil }
  unsafe BIO_meth_set_read_ex(method, readPipe)
  unsafe BIO_meth_set_write_ex(method, writePipe)
  unsafe BIO_meth_set_ctrl(method, controlPipe)
  return unsafe method
}()

private func stream(_ pipe: OpaquePointer?) -> TLSStream {
  unsafe Unmanaged<TLSStream>.fromOpaque(BIO_get_data(pipe)).takeUnretainedValue()
}

private func readPipe(
  _ pipe: OpaquePointer?, _ bytes: UnsafeMutablePointer<CChar>?, _ wanted: Int,
  _ read: UnsafeMutablePointer<Int>?
) -> Int32 {
  let stream = unsafe stream(pipe)
  let count = unsafe min(wanted, stream.incoming.count)
  unsafe martlet_pipe_is_dry(pipe, count > 0 ? 0 : 1)
  guard count > 0 else { return 0 }
  unsafe UnsafeMutableRawPointer(bytes!).copyMemory(
    from: stream.incoming.baseAddress!, byteCount: count)
  unsafe stream.incoming = UnsafeRawBufferPointer(rebasing: stream.incoming[count...])
  unsafe read!.pointee = count
  return 1
}

private func writePipe(
  _ pipe: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ count: Int,
  _ written: UnsafeMutablePointer<Int>?
) -> Int32 {
  let stream = unsafe stream(pipe)
  unsafe stream.outgoing.append(
    contentsOf: UnsafeRawBufferPointer(start: bytes, count: count))
  unsafe written!.pointee = count
  return 1
}

private func controlPipe(
  _: OpaquePointer?, _ command: Int32, _: Int, _: UnsafeMutableRawPointer?
) -> Int {
  command == BIO_CTRL_FLUSH ? 1 : 0
}
