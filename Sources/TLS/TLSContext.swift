internal import Basics
internal import COpenSSL

/// What the connections of one side share: certificate, key, trust and options. Never changed
/// once made; a connection keeps the one it began with.
@safe public final class TLSContext: @unchecked Sendable {
  // Shared safely: OpenSSL counts references to a context atomically and only reads it once
  // connections are made from it; the rest is constant.
  public enum Side: Sendable { case server, client }

  public let side: Side
  /// The certificate that this side shows; nil when it shows none.
  public let certificate: Certificate?
  let pointer: OpaquePointer
  let verifies: Bool
  private let revoked: Set<[UInt8]>
  private let allowedCommonNames: [String]
  private let allowedHostnames: [String]
  fileprivate let spoken: [[UInt8]]

  /// Throws `settings` with a text that says what cannot be used.
  public static func make(_ settings: TLSSettings, _ side: Side) throws(TLSError) -> TLSContext {
    ERR_clear_error()
    let method = unsafe side == .server ? TLS_server_method() : TLS_client_method()
    guard let pointer = unsafe SSL_CTX_new(method) else { throw .settings(takeErrorText()) }
    let context: TLSContext
    do throws(TLSError) {
      context = try unsafe TLSContext(pointer, settings, side)
    } catch {
      unsafe SSL_CTX_free(pointer)
      throw error
    }
    let own = unsafe Unmanaged.passUnretained(context).toOpaque()
    unsafe SSL_CTX_set_cert_verify_callback(pointer, verifyChain, own)
    if side == .server { unsafe SSL_CTX_set_alpn_select_cb(pointer, chooseProtocol, own) }
    return context
  }

  private init(
    _ pointer: OpaquePointer, _ settings: TLSSettings, _ side: Side
  ) throws(TLSError) {
    try unsafe Self.configure(pointer, settings, side)
    certificate =
      settings.certificate.isEmpty ? nil : try Certificate(pem: settings.certificate)
    revoked = try readRevocations(settings.revocations)
    unsafe self.pointer = pointer
    self.side = side
    verifies = settings.verifies
    allowedCommonNames = settings.allowedCommonNames
    allowedHostnames = settings.allowedHostnames
    spoken = settings.speaks.map(\.wire)
  }

  deinit { unsafe SSL_CTX_free(pointer) }

  // MARK: Setting up

  private static func configure(
    _ context: OpaquePointer, _ settings: TLSSettings, _ side: Side
  ) throws(TLSError) {
    unsafe martlet_tls_set_options(context)
    try check(
      unsafe martlet_tls_set_versions(
        context, settings.versionMin.rawValue, settings.versionMax?.rawValue ?? 0),
      "TLS versions")
    // The short key first, as Go has it: nothing needs the longer one, which is slower.
    try check(
      unsafe SSL_CTX_set_ciphersuites(
        context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"),
      "cipher suites")
    try unsafe setCiphers(context, settings)
    if !settings.certificate.isEmpty || !settings.key.isEmpty {
      try unsafe setCertificate(context, settings)
    }
    try unsafe setTrust(context, settings, side)
    let mode =
      side == .server
      ? (settings.verifies ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT : SSL_VERIFY_NONE)
      : (settings.verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE)
    unsafe SSL_CTX_set_verify(context, mode, nil)
  }

  private static func setCiphers(
    _ context: OpaquePointer, _ settings: TLSSettings
  ) throws(TLSError) {
    guard !settings.cipherSuites.isEmpty else { return }
    let names = try settings.cipherSuites.map { name throws(TLSError) in
      guard let found = openSSLName(name) else {
        throw .settings("unexpected TLS cipher suite \"\(name)\"")
      }
      return found
    }
    // TLS 1.3 has its own short list, which stays whole.
    let older = names.filter { !$0.isEmpty && !$0.hasPrefix("TLS_") }
    guard !older.isEmpty else {
      try check(
        unsafe martlet_tls_set_versions(
          context, TLSSettings.Version.tls13.rawValue, settings.versionMax?.rawValue ?? 0),
        "TLS versions")
      return
    }
    try check(
      unsafe SSL_CTX_set_cipher_list(context, older.joined(separator: ":")), "cipher suites")
  }

  private static func setCertificate(
    _ context: OpaquePointer, _ settings: TLSSettings
  ) throws(TLSError) {
    try unsafe withMemory(settings.certificate) { memory throws(TLSError) in
      var count = 0
      while let certificate = unsafe martlet_read_certificate(memory) {
        defer { unsafe X509_free(certificate) }
        let result =
          count == 0
          ? unsafe SSL_CTX_use_certificate(context, certificate)
          : unsafe martlet_tls_add_chain(context, certificate)
        try check(result, "certificate \(count + 1)")
        count += 1
      }
      guard count > 0 else { throw .settings("no certificate in PEM: \(takeErrorText())") }
      ERR_clear_error()
    }
    try unsafe withMemory(settings.key) { memory throws(TLSError) in
      guard let key = unsafe martlet_read_key(memory) else {
        throw .settings("no private key in PEM, or one under a password: \(takeErrorText())")
      }
      defer { unsafe EVP_PKEY_free(key) }
      guard unsafe SSL_CTX_use_PrivateKey(context, key) == 1 else {
        ERR_clear_error()
        throw .settings("private key does not match public key")
      }
    }
  }

  private static func setTrust(
    _ context: OpaquePointer, _ settings: TLSSettings, _ side: Side
  ) throws(TLSError) {
    guard settings.verifies else { return }
    guard !settings.authorities.isEmpty else {
      try check(unsafe SSL_CTX_set_default_verify_paths(context), "the system's authorities")
      return
    }
    let store = unsafe SSL_CTX_get_cert_store(context)
    // As in Go, whatever is trusted ends a chain, signed by itself or not.
    unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_PARTIAL_CHAIN))
    unsafe X509_STORE_set_check_issued(store, isIssued)
    try unsafe withMemory(settings.authorities) { memory throws(TLSError) in
      var count = 0
      while let certificate = unsafe martlet_read_certificate(memory) {
        defer { unsafe X509_free(certificate) }
        try check(unsafe X509_STORE_add_cert(store, certificate), "authority \(count + 1)")
        if side == .server { unsafe SSL_CTX_add_client_CA(context, certificate) }
        count += 1
      }
      guard count > 0 else { throw .settings("no certificate in PEM: \(takeErrorText())") }
      ERR_clear_error()
    }
  }

  // MARK: Judging the other side

  /// Why a verified chain is refused all the same; its first certificate is the other side's.
  fileprivate func refusal(_ verification: OpaquePointer) -> (code: Int32, text: String)? {
    if !revoked.isEmpty {
      for at in 0..<(unsafe martlet_chain_count(verification)) {
        let certificate = unsafe martlet_chain_at(verification, at)
        let serial = unsafe Certificate.serial(X509_get0_serialNumber(certificate))
        if revoked.contains(serial) {
          let text = serial.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
          return (X509_V_ERR_CERT_REVOKED, "its serial number \(text) is revoked")
        }
      }
    }
    guard let leaf = unsafe martlet_chain_at(verification, 0) else { return nil }
    if !allowedCommonNames.isEmpty {
      let name = unsafe Certificate(leaf).commonName
      if !allowedCommonNames.contains(name) {
        return (X509_V_ERR_HOSTNAME_MISMATCH, "the common name \"\(name)\" is not allowed")
      }
    }
    if !allowedHostnames.isEmpty,
      !allowedHostnames.contains(where: { unsafe isValid(leaf, for: $0) })
    {
      return (
        X509_V_ERR_HOSTNAME_MISMATCH,
        "it is valid for none of \(allowedHostnames.joined(separator: ", "))"
      )
    }
    return nil
  }
}

/// Whether a certificate's alternative names hold `host`, a name or an address.
func isValid(_ certificate: OpaquePointer, for host: String) -> Bool {
  if let address = canonicalAddress(host) {
    return unsafe X509_check_ip_asc(certificate, address, 0) == 1
  }
  let flags = UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
  return unsafe X509_check_host(certificate, host, host.utf8.count, flags, nil) == 1
}

/// OpenSSL's name for a suite of the IANA registry, empty for one that Go knows and OpenSSL was
/// built without; nil for what is no suite. etcd: `tlsutil.GetCipherSuite`.
private func openSSLName(_ name: String) -> String? {
  switch name {
  case "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": return "ECDHE-RSA-CHACHA20-POLY1305"
  case "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": return "ECDHE-ECDSA-CHACHA20-POLY1305"
  case "TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA":
    return ""
  default: break
  }
  guard let found = unsafe OPENSSL_cipher_name(name) else { return nil }
  let text = unsafe String(cString: found)
  return text == "(NONE)" ? nil : text
}

/// The serial numbers that a revocation list names. Like etcd, which looks at the number alone.
private func readRevocations(_ bytes: [UInt8]) throws(TLSError) -> Set<[UInt8]> {
  guard !bytes.isEmpty else { return [] }
  return try unsafe withMemory(bytes) { memory throws(TLSError) in
    let isPEM = bytes.starts(with: Array("-----BEGIN".utf8)) || bytes.contains(UInt8(ascii: "-"))
    var list = isPEM ? unsafe martlet_read_revocations(memory) : nil
    if unsafe list == nil {
      ERR_clear_error()
      unsafe list = withMemoryDER(bytes)
    }
    guard let list = unsafe list else {
      throw .settings("no revocation list: \(takeErrorText())")
    }
    defer { unsafe X509_CRL_free(list) }
    var found: Set<[UInt8]> = []
    for at in 0..<(unsafe martlet_revoked_count(list)) {
      found.insert(unsafe Certificate.serial(martlet_revoked_serial(list, at)))
    }
    return found
  }
}

private func withMemoryDER(_ bytes: [UInt8]) -> OpaquePointer? {
  unsafe bytes.withUnsafeBufferPointer {
    var start = $0.baseAddress
    return unsafe d2i_X509_CRL(nil, &start, $0.count)
  }
}

// MARK: Callbacks

/// OpenSSL's check of the chain, and ours after it. The owner's text of a refusal stays with the
/// stream.
private func verifyChain(
  _ verification: OpaquePointer?, _ context: UnsafeMutableRawPointer?
) -> Int32 {
  guard let verification = unsafe verification, let context = unsafe context else { return 0 }
  guard unsafe X509_verify_cert(verification) == 1 else { return 0 }
  let owner = unsafe Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
  guard let (code, text) = unsafe owner.refusal(verification) else { return 1 }
  unsafe X509_STORE_CTX_set_error(verification, code)
  let place = SSL_get_ex_data_X509_STORE_CTX_idx()
  if let ssl = unsafe X509_STORE_CTX_get_ex_data(verification, place),
    let stream = unsafe SSL_get_ex_data(OpaquePointer(ssl), 0)
  {
    unsafe Unmanaged<TLSStream>.fromOpaque(stream).takeUnretainedValue().refusal = text
  }
  return 0
}

/// Whether `issuer` has signed `certificate`. OpenSSL by itself takes the first authority of the
/// right name; while authorities are replaced there are two of it.
private func isIssued(
  _: OpaquePointer?, _ certificate: OpaquePointer?, _ issuer: OpaquePointer?
) -> Int32 {
  guard unsafe X509_check_issued(issuer, certificate) == X509_V_OK,
    let key = unsafe X509_get0_pubkey(issuer)
  else { return 0 }
  let isSigned = unsafe X509_verify(certificate, key) == 1
  if !isSigned { ERR_clear_error() }
  return isSigned ? 1 : 0
}

/// ALPN: what the server wants most, whatever order the client has it in.
private func chooseProtocol(
  _: OpaquePointer?, _ chosen: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
  _ chosenCount: UnsafeMutablePointer<UInt8>?, _ offered: UnsafePointer<UInt8>?,
  _ offeredCount: UInt32, _ context: UnsafeMutableRawPointer?
) -> Int32 {
  guard let chosen = unsafe chosen, let chosenCount = unsafe chosenCount,
    let context = unsafe context
  else { return SSL_TLSEXT_ERR_ALERT_FATAL }
  let owner = unsafe Unmanaged<TLSContext>.fromOpaque(context).takeUnretainedValue()
  let names = unsafe UnsafeBufferPointer(start: offered, count: Int(offeredCount))
  for wanted in owner.spoken {
    var at = 0
    while at < names.count {
      let end = unsafe at + 1 + Int(names[at])
      guard end <= names.count else { break }
      if unsafe names[at..<end].elementsEqual(wanted) {
        // The answer points into the client's own list, which outlives the callback.
        unsafe chosen.pointee = offered! + at + 1
        unsafe chosenCount.pointee = names[at]
        return SSL_TLSEXT_ERR_OK
      }
      at = end
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL
}
