internal import COpenSSL

/// SHA-256 over bytes that come in pieces.
@safe public final class SHA256Hash {
  private let context: OpaquePointer

  public init() {
    guard let made = unsafe EVP_MD_CTX_new() else { preconditionFailure("no memory") }
    unsafe context = made
    unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil)
  }

  deinit { unsafe EVP_MD_CTX_free(context) }

  public func update(_ bytes: RawSpan) {
    unsafe bytes.withUnsafeBytes {
      _ = unsafe EVP_DigestUpdate(context, $0.baseAddress, $0.count)
    }
  }

  /// The 32 bytes; nothing may be added after that.
  public func finish() -> [UInt8] {
    var digest = [UInt8](repeating: 0, count: 32)
    unsafe EVP_DigestFinal_ex(context, &digest, nil)
    return digest
  }
}
