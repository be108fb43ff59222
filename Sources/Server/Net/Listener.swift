/// A socket that connections come in by, and what it serves them.
struct Listener: Sendable {
  enum Role: Sendable {
    /// gRPC, the gateway and all pages: `--listen-client-urls`.
    case all
    /// gRPC alone: the client URLs when there are others for plain HTTP.
    case grpc
    /// All but gRPC: `--listen-client-http-urls`.
    case http
    /// Metrics and health alone: `--listen-metrics-urls`.
    case metrics
  }

  var fd: Int32
  var role: Role
  /// As it was asked for.
  var url: String
  var isSecure: Bool
  /// What it is secured with; nil in clear text.
  var files: TLSFiles?
}
