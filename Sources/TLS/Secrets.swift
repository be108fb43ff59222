internal import COpenSSL

/// Bytes that nobody can guess. Ends the process when the system has none to give.
public func secretBytes(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  precondition(unsafe RAND_bytes(&bytes, Int32(count)) == 1, "no random bytes could be had")
  return bytes
}
