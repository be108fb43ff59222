/// What secures the client port, or the peer port and the calls to other members.
public struct TLSOptions: Equatable, Sendable {
  public var certificateFile = ""
  public var keyFile = ""
  /// Shown when calling others; empty: the same as when called.
  public var clientCertificateFile = ""
  public var clientKeyFile = ""
  public var trustedCAFile = ""
  public var revocationFile = ""
  public var clientCertAuth = false
  public var allowedCommonNames: [String] = []
  public var allowedHostnames: [String] = []
  /// A certificate is made when none is given.
  public var isAutomatic = false
  /// The names in peers' certificates are not held against their addresses.
  public var skipsNameCheck = false
  /// Names of the IANA registry; empty: the library's choice.
  public var cipherSuites: [String] = []
  public var versionMin = Version.tls12
  public var versionMax: Version?

  public enum Version: String, Sendable {
    case tls12 = "TLS1.2"
    case tls13 = "TLS1.3"
  }

  public var isEmpty: Bool { certificateFile.isEmpty && keyFile.isEmpty }

  /// As in etcd, an authority alone is enough for certificates to be demanded.
  public var demandsCertificates: Bool { clientCertAuth || !trustedCAFile.isEmpty }
}

extension TLSOptions {
  init(client settings: Settings) throws(ConfigError) {
    certificateFile = settings.text("cert-file")
    keyFile = settings.text("key-file")
    clientCertificateFile = settings.text("client-cert-file")
    clientKeyFile = settings.text("client-key-file")
    trustedCAFile = settings.text("trusted-ca-file")
    revocationFile = settings.text("client-crl-file")
    clientCertAuth = settings.flag("client-cert-auth")
    allowedCommonNames = settings.list("client-cert-allowed-cn")
    allowedHostnames = settings.list("client-cert-allowed-hostname")
    isAutomatic = settings.flag("auto-tls")
    try takeShared(settings)
  }

  init(peer settings: Settings) throws(ConfigError) {
    certificateFile = settings.text("peer-cert-file")
    keyFile = settings.text("peer-key-file")
    clientCertificateFile = settings.text("peer-client-cert-file")
    clientKeyFile = settings.text("peer-client-key-file")
    trustedCAFile = settings.text("peer-trusted-ca-file")
    revocationFile = settings.text("peer-crl-file")
    clientCertAuth = settings.flag("peer-client-cert-auth")
    allowedCommonNames = settings.list("peer-cert-allowed-cn")
    allowedHostnames = settings.list("peer-cert-allowed-hostname")
    isAutomatic = settings.flag("peer-auto-tls")
    skipsNameCheck = settings.flag("experimental-peer-skip-client-san-verification")
    try takeShared(settings)
  }

  private mutating func takeShared(_ settings: Settings) throws(ConfigError) {
    func version(_ name: String) throws(ConfigError) -> Version? {
      let text = settings.text(name)
      if text.isEmpty { return nil }
      guard let found = Version(rawValue: text) else {
        throw ConfigError(
          "unexpected TLS version \"\(text)\" (must be one of: TLS1.2, TLS1.3) [--\(name)]")
      }
      return found
    }
    cipherSuites = settings.list("cipher-suites")
    versionMin = try version("tls-min-version") ?? .tls12
    versionMax = try version("tls-max-version")
    if versionMin == .tls13, versionMax == .tls12 {
      throw ConfigError(
        "min version (TLS1.3) is greater than max version (TLS1.2) [--tls-min-version, "
          + "--tls-max-version]")
    }
    if versionMin == .tls13, !cipherSuites.isEmpty {
      throw ConfigError(
        "cipher suites cannot be configured when only TLS1.3 is enabled [--cipher-suites, "
          + "--tls-min-version]")
    }
  }

  /// Refuses what cannot secure a port. `prefix` is that of the flags: empty or `peer-`.
  func validate(_ prefix: String) throws(ConfigError) {
    guard certificateFile.isEmpty == keyFile.isEmpty else {
      throw ConfigError(
        "KeyFile and CertFile must both be present[key: \(keyFile), cert: \(certificateFile)] "
          + "[--\(prefix)cert-file, --\(prefix)key-file]")
    }
    guard clientCertificateFile.isEmpty == clientKeyFile.isEmpty else {
      throw ConfigError(
        "ClientKeyFile and ClientCertFile must both be present or both absent: key: "
          + "\(clientKeyFile), cert: \(clientCertificateFile)] [--\(prefix)client-cert-file, "
          + "--\(prefix)client-key-file]")
    }
    guard allowedCommonNames.isEmpty || allowedHostnames.isEmpty else {
      throw ConfigError(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns=\(allowedCommonNames), "
          + "hostnames=\(allowedHostnames)) [--peer-cert-allowed-cn, "
          + "--\(prefix.isEmpty ? "client-" : prefix)cert-allowed-hostname]")
    }
  }
}

extension Options {
  /// Holds the URLs against what there is to secure them with.
  /// etcd: `configureClientListeners`, `configurePeerListeners`.
  mutating func validateTLS(_ settings: Settings) throws(ConfigError) {
    let clientURLs = listenClient + http.listenHTTP
    if clientURLs.contains(where: \.isSecure) {
      if clientTLS.isEmpty, !clientTLS.isAutomatic, let url = clientURLs.first(where: \.isSecure) {
        throw ConfigError(
          "TLS key/cert (--cert-file, --key-file) must be provided for client url \(url.text) "
            + "with HTTPS scheme")
      }
      try clientTLS.validate("")
    }
    if http.listenMetrics.contains(where: \.isSecure), clientTLS.isEmpty, !clientTLS.isAutomatic {
      throw ConfigError(
        "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url "
          + "[--listen-metrics-urls]")
    }
    if let url = listenPeer.first(where: \.isSecure), peerTLS.isEmpty, !peerTLS.isAutomatic {
      throw ConfigError(
        "cannot listen on TLS for \(url.text): KeyFile and CertFile are not presented "
          + "(--peer-cert-file, --peer-key-file)")
    }
    try peerTLS.validate("peer-")
    let makesClient = clientTLS.isAutomatic && clientTLS.isEmpty
    let makesPeer = peerTLS.isAutomatic && peerTLS.isEmpty
    if makesClient || makesPeer, selfSignedYears <= 0 {
      throw ConfigError(
        "selfSignedCertValidity is invalid,it should be greater than 0 "
          + "[--self-signed-cert-validity]")
    }
    noteTLS(clientURLs)
  }

  private mutating func noteTLS(_ clientURLs: [Endpoint]) {
    func note(_ what: String, _ subject: String) { notes.append((what, subject)) }
    for url in clientURLs where !url.isSecure {
      if !clientTLS.isEmpty {
        note(
          "scheme is http or unix while key and cert files are present; ignoring key and cert "
            + "files", url.text)
      }
      if clientTLS.clientCertAuth {
        note(
          "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth "
            + "for this URL", url.text)
      }
    }
    for url in listenPeer where !url.isSecure {
      if !peerTLS.isEmpty {
        note(
          "scheme is HTTP while key and cert files are present; ignoring key and cert files",
          url.text)
      }
      if peerTLS.clientCertAuth {
        note(
          "scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for "
            + "this URL", url.text)
      }
    }
    if clientTLS.isAutomatic, !clientTLS.isEmpty {
      note("ignoring client auto TLS since certs given", "--auto-tls")
    }
    if peerTLS.isAutomatic, !peerTLS.isEmpty {
      note("ignoring peer auto TLS since certs given", "--peer-auto-tls")
    }
    for url in advertiseClient where url.isSecure && !clientURLs.contains(where: \.isSecure) {
      note("an https URL is advertised while no client URL with TLS is listened on", url.text)
    }
    for url in advertiseClient where !url.isSecure && !clientURLs.contains(where: { !$0.isSecure })
    {
      note("an http URL is advertised while every client URL listened on has TLS", url.text)
    }
  }
}
