/// A bound socket and what is served to those who come by it.
struct Listener: Sendable {
  enum Port: String, Sendable { case client, peer }

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

  let fd: Int32
  /// As it was asked for.
  let url: String
  let port: Port
  let role: Role
  /// Nil: in clear text.
  let files: TLSFiles?
}
