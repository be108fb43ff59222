internal import Basics
internal import COpenSSL

/// How a JSON Web Token is signed (RFC 7518 §3.1).
public enum SigningMethod: String, CaseIterable, Sendable {
  case hs256 = "HS256"
  case hs384 = "HS384"
  case hs512 = "HS512"
  case rs256 = "RS256"
  case rs384 = "RS384"
  case rs512 = "RS512"
  case ps256 = "PS256"
  case ps384 = "PS384"
  case ps512 = "PS512"
  case es256 = "ES256"
  case es384 = "ES384"
  case es512 = "ES512"

  enum Family { case hmac, rsa, pss, ecdsa }

  var family: Family {
    switch self {
    case .hs256, .hs384, .hs512: .hmac
    case .rs256, .rs384, .rs512: .rsa
    case .ps256, .ps384, .ps512: .pss
    case .es256, .es384, .es512: .ecdsa
    }
  }

  /// Bits of an elliptic curve's numbers.
  var curveBits: Int32 {
    switch self {
    case .es256: 256
    case .es384: 384
    default: 521
    }
  }

  var digest: OpaquePointer? {
    switch self {
    case .hs256, .rs256, .ps256, .es256: unsafe EVP_sha256()
    case .hs384, .rs384, .ps384, .es384: unsafe EVP_sha384()
    case .hs512, .rs512, .ps512, .es512: unsafe EVP_sha512()
    }
  }
}

/// Why a key cannot be had.
public enum SigningKeyError: Error, Equatable, Sendable {
  /// Neither a private nor a public key was given.
  case missing
  /// What was given is no key, or not one of the method's kind and size.
  case unreadable
  /// The public key is another than the private key's.
  case mismatch
}

/// A key that signs, or only checks, signatures of one method.
@safe public final class SigningKey: @unchecked Sendable {
  // Shared safely: OpenSSL counts references to a key with atomics and only reads it once made;
  // every call here makes a context of its own.
  private let key: OpaquePointer
  public let method: SigningMethod
  /// Whether the private half is there.
  public let canSign: Bool

  private init(key: OpaquePointer, method: SigningMethod, canSign: Bool) {
    unsafe self.key = unsafe key
    self.method = method
    self.canSign = canSign
  }

  deinit { unsafe EVP_PKEY_free(key) }

  /// Reads keys: for HMAC `privateKey` is the secret itself, else both are PEM; the public one may
  /// come as a certificate. One of the two is enough to check signatures.
  public static func read(
    _ method: SigningMethod, privateKey: [UInt8]?, publicKey: [UInt8]?
  ) throws(SigningKeyError) -> SigningKey {
    defer { ERR_clear_error() }
    if method.family == .hmac {
      guard let secret = privateKey, !secret.isEmpty else { throw .missing }
      guard
        let key = unsafe EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, nil, secret, secret.count)
      else { throw .unreadable }
      return unsafe SigningKey(key: key, method: method, canSign: true)
    }
    var keys: [SigningKey] = []
    for (text, isPrivate) in [(privateKey, true), (publicKey, false)] {
      guard let text else { continue }
      guard let key = unsafe isPrivate ? privatePEM(text) : publicPEM(text) else {
        throw .unreadable
      }
      keys.append(unsafe SigningKey(key: key, method: method, canSign: isPrivate))
    }
    guard let first = keys.first else { throw .missing }
    for key in keys where !key.fitsMethod { throw .unreadable }
    if keys.count == 2, unsafe EVP_PKEY_eq(first.key, keys[1].key) != 1 { throw .mismatch }
    return first
  }

  private var fitsMethod: Bool {
    switch method.family {
    case .hmac: true
    case .rsa, .pss: unsafe EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA
    case .ecdsa:
      unsafe EVP_PKEY_get_base_id(key) == EVP_PKEY_EC
        && EVP_PKEY_get_bits(key) == method.curveBits
    }
  }

  private static func privatePEM(_ text: [UInt8]) -> OpaquePointer? {
    let source = unsafe BIO_new_mem_buf(text, Int32(text.count))
    defer { unsafe BIO_free(source) }
    // An empty password: OpenSSL would ask at the terminal for one.
    var password: CChar = 0
    return unsafe PEM_read_bio_PrivateKey(source, nil, nil, &password)
  }

  private static func publicPEM(_ text: [UInt8]) -> OpaquePointer? {
    let source = unsafe BIO_new_mem_buf(text, Int32(text.count))
    defer { unsafe BIO_free(source) }
    if let key = unsafe PEM_read_bio_PUBKEY(source, nil, nil, nil) { return unsafe key }
    let again = unsafe BIO_new_mem_buf(text, Int32(text.count))
    defer { unsafe BIO_free(again) }
    guard let certificate = unsafe PEM_read_bio_X509(again, nil, nil, nil) else { return nil }
    defer { unsafe X509_free(certificate) }
    return unsafe X509_get_pubkey(certificate)
  }

  /// The signature over `bytes` as a token holds it; nil without the private half.
  public func sign(_ bytes: [UInt8]) -> [UInt8]? {
    guard canSign else { return nil }
    defer { ERR_clear_error() }
    let context = unsafe EVP_MD_CTX_new()
    defer { unsafe EVP_MD_CTX_free(context) }
    var options: OpaquePointer?
    guard unsafe EVP_DigestSignInit(context, &options, method.digest, nil, key) == 1,
      unsafe setPadding(options, saltLength: RSA_PSS_SALTLEN_DIGEST)
    else { return nil }
    var count = 0
    guard unsafe EVP_DigestSign(context, nil, &count, bytes, bytes.count) == 1 else { return nil }
    var signature = [UInt8](repeating: 0, count: count)
    guard unsafe EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1 else {
      return nil
    }
    signature.removeLast(signature.count - count)
    return method.family == .ecdsa ? numbers(of: signature) : signature
  }

  /// Whether `signature` is the key's over `bytes`.
  public func verifies(_ signature: [UInt8], over bytes: [UInt8]) -> Bool {
    defer { ERR_clear_error() }
    if method.family == .hmac {
      guard let wanted = sign(bytes), wanted.count == signature.count else { return false }
      return unsafe CRYPTO_memcmp(wanted, signature, wanted.count) == 0
    }
    let encoded = method.family == .ecdsa ? sequence(of: signature) : signature
    guard let encoded else { return false }
    let context = unsafe EVP_MD_CTX_new()
    defer { unsafe EVP_MD_CTX_free(context) }
    var options: OpaquePointer?
    guard unsafe EVP_DigestVerifyInit(context, &options, method.digest, nil, key) == 1,
      unsafe setPadding(options, saltLength: RSA_PSS_SALTLEN_AUTO)
    else { return false }
    return unsafe EVP_DigestVerify(
      context, encoded, encoded.count, bytes, bytes.count) == 1
  }

  private func setPadding(_ options: OpaquePointer?, saltLength: Int32) -> Bool {
    guard method.family == .pss else { return true }
    return unsafe EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING) > 0
      && EVP_PKEY_CTX_set_rsa_pss_saltlen(options, saltLength) > 0
  }

  // MARK: ECDSA signatures: OpenSSL's are a DER sequence, a token's the two numbers one after the
  // other (RFC 7518 §3.4).

  private var numberBytes: Int { Int(method.curveBits + 7) / 8 }

  private func numbers(of der: [UInt8]) -> [UInt8]? {
    let pair = unsafe der.withUnsafeBufferPointer { buffer in
      var start = buffer.baseAddress
      return unsafe d2i_ECDSA_SIG(nil, &start, der.count)
    }
    guard let pair = unsafe pair else { return nil }
    defer { unsafe ECDSA_SIG_free(pair) }
    var r = [UInt8](repeating: 0, count: numberBytes)
    var s = r
    guard unsafe BN_bn2binpad(ECDSA_SIG_get0_r(pair), &r, Int32(r.count)) == r.count,
      unsafe BN_bn2binpad(ECDSA_SIG_get0_s(pair), &s, Int32(s.count)) == s.count
    else { return nil }
    return r + s
  }

  private func sequence(of numbers: [UInt8]) -> [UInt8]? {
    let size = numberBytes
    guard numbers.count == 2 * size, let pair = unsafe ECDSA_SIG_new() else { return nil }
    defer { unsafe ECDSA_SIG_free(pair) }
    let r = unsafe BN_bin2bn([UInt8](numbers[..<size]), Int32(size), nil)
    let s = unsafe BN_bin2bn([UInt8](numbers[size...]), Int32(size), nil)
    guard unsafe ECDSA_SIG_set0(pair, r, s) == 1 else { return nil }
    var der: UnsafeMutablePointer<UInt8>?
    let count = unsafe i2d_ECDSA_SIG(pair, &der)
    guard count > 0, let der = unsafe der else { return nil }
    defer { unsafe CRYPTO_free(der, "", 0) }
    return unsafe [UInt8](UnsafeBufferPointer(start: der, count: Int(count)))
  }
}
