/// What one side of TLS connections is made from: the bytes of files, and options.
public struct TLSSettings: Equatable, Sendable {
  /// PEM: what this side shows, and the certificates between it and an authority.
  public var certificate: [UInt8] = []
  public var key: [UInt8] = []
  /// PEM: whom this side trusts. Empty: the authorities that the system trusts.
  public var authorities: [UInt8] = []
  /// PEM or DER; empty: nothing is revoked.
  public var revocations: [UInt8] = []
  /// Whether a client must show a certificate (server), or the server's is looked at (client).
  public var verifies = false
  /// Common names of which the other side's certificate must have one; empty: any.
  public var allowedCommonNames: [String] = []
  /// Host names or addresses of which its certificate must be valid for one; empty: any.
  public var allowedHostnames: [String] = []
  /// Names of the IANA registry; empty: the library's choice. As in Go, they bear on TLS 1.2 alone.
  public var cipherSuites: [String] = []
  /// What a server speaks, the most wanted first (RFC 7301).
  public var speaks: [ApplicationProtocol] = [.http2, .http1]
  public var versionMin = Version.tls12
  public var versionMax: Version?

  public enum Version: Int32, Comparable, Sendable {
    case tls12 = 0x0303
    case tls13 = 0x0304
    public static func < (left: Version, right: Version) -> Bool { left.rawValue < right.rawValue }
  }

  public init() {}
}

/// What a connection speaks, as agreed in its handshake (RFC 7301).
public enum ApplicationProtocol: String, Sendable {
  case http2 = "h2"
  case http1 = "http/1.1"

  var wire: [UInt8] { [UInt8(rawValue.utf8.count)] + Array(rawValue.utf8) }
}
