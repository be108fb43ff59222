/// Why a TLS connection, or what one would need, is not there.
public enum TLSError: Error, Equatable, Sendable {
  /// A certificate, key, list or option that cannot be used.
  case settings(String)
  /// The other side does not speak TLS.
  case plainText
  /// The other side's certificate is not accepted.
  case refused(String)
  /// The handshake failed in another way, or the other side broke off.
  case handshake(String)
  /// The connection broke after its handshake.
  case broken(String)

  /// For a person.
  public var text: String {
    switch self {
    case .settings(let text), .handshake(let text), .broken(let text): text
    case .refused(let text): "certificate refused: \(text)"
    case .plainText: "the other side does not speak TLS"
    }
  }
}
