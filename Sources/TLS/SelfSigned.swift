internal import COpenSSL

/// Makes a key (P-521) and a certificate signed with it, both PEM, for servers at `hosts`, which
/// are names or addresses. etcd: `transport.SelfCert`.
public func makeSelfSigned(
  hosts: [String], validSeconds: Int64
) throws(TLSError) -> (certificate: [UInt8], key: [UInt8]) {
  guard let key = unsafe martlet_make_key() else { throw .settings(takeErrorText()) }
  defer { unsafe EVP_PKEY_free(key) }
  guard let certificate = unsafe X509_new() else { throw .settings(takeErrorText()) }
  defer { unsafe X509_free(certificate) }
  try check(unsafe X509_set_version(certificate, 2), "version")
  try unsafe setSerial(certificate)
  _ = unsafe X509_gmtime_adj(X509_getm_notBefore(certificate), 0)
  _ = unsafe X509_gmtime_adj(X509_getm_notAfter(certificate), Int(validSeconds))
  let name = unsafe X509_get_subject_name(certificate)
  try check(
    unsafe X509_NAME_add_entry_by_NID(
      name, NID_organizationName, MBSTRING_UTF8, [UInt8]("etcd".utf8), 4, -1, 0), "name")
  try check(unsafe X509_set_issuer_name(certificate, name), "issuer")
  try check(unsafe X509_set_pubkey(certificate, key), "key")
  let names = hosts.map { host in
    if let address = canonicalAddress(host) { return "IP:\(address)" }
    return "DNS:\(host)"
  }
  for (kind, value) in [
    (NID_key_usage, "critical,digitalSignature,keyEncipherment"),
    (NID_ext_key_usage, "serverAuth"), (NID_basic_constraints, "critical,CA:FALSE"),
    (NID_subject_alt_name, names.joined(separator: ",")),
  ] where !value.isEmpty {
    guard let found = unsafe X509V3_EXT_conf_nid(nil, nil, kind, value) else {
      throw .settings("certificate for \(hosts): \(takeErrorText())")
    }
    defer { unsafe X509_EXTENSION_free(found) }
    try check(unsafe X509_add_ext(certificate, found, -1), "extension")
  }
  guard unsafe X509_sign(certificate, key, EVP_sha512()) > 0 else {
    throw .settings(takeErrorText())
  }
  let text = try unsafe withMemory([]) { memory throws(TLSError) in
    try check(unsafe PEM_write_bio_X509(memory, certificate), "certificate")
    return unsafe contents(memory)
  }
  let keyText = try unsafe withMemory([]) { memory throws(TLSError) in
    try check(unsafe martlet_write_key(memory, key), "key")
    return unsafe contents(memory)
  }
  return (text, keyText)
}

/// A serial number of 127 random bits.
private func setSerial(_ certificate: OpaquePointer) throws(TLSError) {
  var bytes = [UInt8](repeating: 0, count: 16)
  try check(unsafe RAND_bytes(&bytes, 16), "random bytes")
  bytes[0] &= 0x7f
  guard let number = unsafe BN_bin2bn(bytes, 16, nil) else { throw .settings(takeErrorText()) }
  defer { unsafe BN_free(number) }
  _ = unsafe BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate))
}
