internal import Basics
internal import COpenSSL

/// What is known of a certificate.
public struct Certificate: Equatable, Sendable {
  public var commonName: String
  public var dnsNames: [String]
  /// IP addresses in text, as the system writes them.
  public var addresses: [String]
  /// The serial number in hexadecimal.
  public var serial: String
  /// Seconds since 1970 between which it holds.
  public var notBefore: Int64
  public var notAfter: Int64

  /// Reads the first certificate of a PEM file's bytes.
  public init(pem: [UInt8]) throws(TLSError) {
    self = try unsafe withMemory(pem) { memory throws(TLSError) in
      guard let certificate = unsafe martlet_read_certificate(memory) else {
        throw .settings("no certificate in PEM: \(takeErrorText())")
      }
      defer { unsafe X509_free(certificate) }
      return unsafe Certificate(certificate)
    }
  }

  init(_ certificate: OpaquePointer) {
    commonName = unsafe Self.commonName(certificate)
    dnsNames = []
    addresses = []
    serial = unsafe Self.serial(X509_get0_serialNumber(certificate))
      .map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    notBefore = unsafe Self.seconds(X509_get0_notBefore(certificate))
    notAfter = unsafe Self.seconds(X509_get0_notAfter(certificate))
    guard let names = unsafe martlet_names(certificate) else { return }
    defer { unsafe martlet_names_free(names) }
    for at in 0..<(unsafe martlet_names_count(names)) {
      var start: UnsafePointer<UInt8>?
      var count: Int32 = 0
      let kind = unsafe martlet_name_at(names, at, &start, &count)
      guard kind != 0, let start = unsafe start else { continue }
      let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: Int(count)))
      if kind == 1 {
        dnsNames.append(String(decoding: bytes, as: UTF8.self))
      } else if let text = addressText(bytes) {
        addresses.append(text)
      }
    }
  }

  private static func commonName(_ certificate: OpaquePointer) -> String {
    let subject = unsafe X509_get_subject_name(certificate)
    let at = unsafe X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
    guard at >= 0, let entry = unsafe X509_NAME_get_entry(subject, at),
      let value = unsafe X509_NAME_ENTRY_get_data(entry)
    else { return "" }
    var start: UnsafeMutablePointer<UInt8>?
    let count = unsafe ASN1_STRING_to_UTF8(&start, value)
    guard count >= 0, let start = unsafe start else { return "" }
    defer { unsafe CRYPTO_free(start, "", 0) }
    return unsafe String(
      decoding: UnsafeBufferPointer(start: start, count: Int(count)), as: UTF8.self)
  }

  /// The bytes of a serial number, highest first.
  static func serial(_ number: UnsafePointer<ASN1_INTEGER>?) -> [UInt8] {
    guard let number = unsafe number, let start = unsafe ASN1_STRING_get0_data(number) else {
      return []
    }
    return unsafe Array(
      UnsafeBufferPointer(start: start, count: Int(ASN1_STRING_length(number))))
  }

  private static func seconds(_ time: UnsafePointer<ASN1_TIME>?) -> Int64 {
    guard let time = unsafe time else { return 0 }
    return unsafe Int64(martlet_seconds(time))
  }
}

/// What a name of an incoming peer's certificate comes to. etcd: `checkCertSAN`.
public enum NameCheck: Equatable, Sendable {
  case accepted
  case refused(String)
  /// One of `dnsNames` must lead to the address, or the address back to one of them: the caller
  /// asks DNS and hands what it found to `resolved`.
  case needsLookup(dnsNames: [String])
}

extension Certificate {
  /// Whether the certificate speaks for a connection that comes from `address`. One without
  /// names speaks for any.
  public func check(address: String) -> NameCheck {
    if addresses.isEmpty, dnsNames.isEmpty { return .accepted }
    if addresses.contains(canonicalAddress(address) ?? address) { return .accepted }
    if !dnsNames.isEmpty { return .needsLookup(dnsNames: dnsNames) }
    return .refused(
      "it is valid for \(addresses.joined(separator: ", ")), not \(address)")
  }

  /// The same with DNS' answers: the names of `address`, and the addresses of each of
  /// `dnsNames`.
  public func resolved(
    address: String, names: [String], addresses found: [String]
  ) -> NameCheck {
    for name in names {
      let bare = name.hasSuffix(".") ? String(name.dropLast()) : name
      for pattern in dnsNames {
        let isWild = pattern.hasPrefix("*.")
        if isWild ? bare.hasSuffix(pattern.dropFirst()) : bare == pattern { return .accepted }
      }
    }
    if found.contains(address) { return .accepted }
    return .refused("\(address) does not match any of its DNS names \(dnsNames)")
  }
}

/// An IPv4 or IPv6 address in text, from its bytes.
func addressText(_ bytes: [UInt8]) -> String? {
  if bytes.count == 4 { return bytes.map(String.init).joined(separator: ".") }
  guard bytes.count == 16 else { return nil }
  let groups = (0..<8).map { UInt16(bytes[2 * $0]) << 8 | UInt16(bytes[2 * $0 + 1]) }
  // RFC 5952: the longest run of zero groups, two at least, becomes "::".
  var best = 0..<0
  var start = 0
  while start < 8 {
    var end = start
    while end < 8, groups[end] == 0 { end += 1 }
    if end - start > max(1, best.count) { best = start..<end }
    start = max(end, start + 1)
  }
  func text(_ part: ArraySlice<UInt16>) -> String {
    part.map { String($0, radix: 16) }.joined(separator: ":")
  }
  if best.isEmpty { return text(groups[...]) }
  return text(groups[..<best.lowerBound]) + "::" + text(groups[best.upperBound...])
}

/// An address in the form of `addressText`; nil for what is none.
func canonicalAddress(_ text: String) -> String? {
  let bare = text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text
  guard let bytes = unsafe a2i_IPADDRESS(bare) else { return nil }
  defer { unsafe ASN1_OCTET_STRING_free(bytes) }
  let count = Int(unsafe ASN1_STRING_length(bytes))
  return unsafe addressText(
    Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(bytes), count: count)))
}
