import Testing

@testable import TLS

@Suite struct SettingsTests {
  func selfMade() throws -> TLSSettings {
    let made = try makeSelfSigned(hosts: ["127.0.0.1", "example.com"], validSeconds: 86400)
    var settings = TLSSettings()
    settings.certificate = made.certificate
    settings.key = made.key
    return settings
  }

  @Test func `a certificate made here serves and names its hosts`() throws {
    let settings = try selfMade()
    let certificate = try Certificate(pem: settings.certificate)
    #expect(certificate.dnsNames == ["example.com"])
    #expect(certificate.addresses == ["127.0.0.1"])
    #expect(certificate.notAfter - certificate.notBefore == 86400)
    var pair = try Pair(server: settings, client: TLSSettings())
    _ = try pair.exchange()
    #expect(pair.client.isOpen)
    var trusting = TLSSettings()
    trusting.verifies = true
    trusting.authorities = settings.certificate
    pair = try Pair(server: settings, client: trusting, host: "example.com")
    _ = try pair.exchange()
    #expect(pair.client.isOpen)
  }

  @Test func `what cannot be used is refused with its reason`() throws {
    func refusal(_ change: (inout TLSSettings) throws -> Void) throws -> String {
      var settings = try selfMade()
      try change(&settings)
      let changed = settings
      return #expect(throws: TLSError.self) { try TLSContext.make(changed, .server) }?.text ?? ""
    }
    let other = try selfMade()
    #expect(try refusal { $0.key = other.key } == "private key does not match public key")
    #expect(try refusal { $0.certificate = [1, 2, 3] }.contains("no certificate in PEM"))
    #expect(try refusal { $0.key = [] }.contains("no private key"))
    #expect(try refusal { $0.revocations = [1, 2, 3] }.contains("no revocation list"))
    #expect(
      try refusal { $0.cipherSuites = ["nonsense"] }
        == "unexpected TLS cipher suite \"nonsense\"")
    #expect(
      try refusal {
        $0.verifies = true
        $0.authorities = [10]
      }.contains("no certificate in PEM"))
  }

  @Test(arguments: [
    (TLSSettings.Version.tls12, TLSSettings.Version?.some(.tls12), [String](), true),
    (.tls13, nil, [], false),
    (.tls12, nil, ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], true),
    (.tls12, nil, ["TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "TLS_RSA_WITH_RC4_128_SHA"], true),
    (.tls12, nil, ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"], false),
    (.tls12, nil, ["TLS_AES_128_GCM_SHA256"], false),
  ])
  func `versions and suites bind`(
    min: TLSSettings.Version, max: TLSSettings.Version?, suites: [String], isAccepted: Bool
  ) throws {
    var server = try selfMade()
    server.versionMin = min
    server.versionMax = max
    server.cipherSuites = suites
    var client = TLSSettings()
    client.versionMax = .tls12
    var pair = try Pair(server: server, client: client)
    if isAccepted {
      _ = try pair.exchange()
      #expect(pair.client.summary.hasPrefix("TLSv1.2 "))
    } else {
      #expect(throws: TLSError.self) { try pair.exchange() }
    }
  }

  @Test func `addresses are written as the system writes them`() {
    #expect(canonicalAddress("[2001:db8:0:0:1::1]") == "2001:db8::1:0:0:1")
    #expect(canonicalAddress("0:0:0:0:0:0:0:0") == "::")
    #expect(canonicalAddress("127.0.0.1") == "127.0.0.1")
    #expect(canonicalAddress("localhost") == nil)
  }
}
