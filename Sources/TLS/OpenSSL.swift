internal import Basics
internal import COpenSSL

/// The text of the oldest error that OpenSSL has noted, and forgets all of them.
func takeErrorText() -> String {
  let code = ERR_peek_error()
  ERR_clear_error()
  guard code != 0 else { return "the connection was closed" }
  if let reason = unsafe ERR_reason_error_string(code) { return unsafe String(cString: reason) }
  return "error \(code)"
}

/// Whether an OpenSSL call has worked; else its text is thrown after `what`.
func check(_ result: Int32, _ what: String) throws(TLSError) {
  guard result == 1 else { throw .settings("\(what): \(takeErrorText())") }
}

/// Runs `body` with a BIO that reads `bytes`.
func withMemory<Result>(
  _ bytes: [UInt8], _ body: (OpaquePointer) throws(TLSError) -> Result
) throws(TLSError) -> Result {
  guard bytes.count < Int32.max else { throw .settings("too large") }
  // A copy of OpenSSL's own: the array's bytes are only lent for one call.
  guard let memory = unsafe BIO_new(BIO_s_mem()) else { throw .settings(takeErrorText()) }
  defer { unsafe BIO_free(memory) }
  if !bytes.isEmpty { _ = unsafe BIO_write(memory, bytes, Int32(bytes.count)) }
  return try unsafe body(memory)
}

/// What has been written to a memory BIO.
func contents(_ memory: OpaquePointer) -> [UInt8] {
  var start: UnsafeMutablePointer<CChar>?
  let count = unsafe martlet_memory_bytes(memory, &start)
  guard count > 0, let start = unsafe start else { return [] }
  return unsafe Array(UnsafeRawBufferPointer(start: start, count: count))
}
