/// What is served without gRPC, and to whom.
public struct HTTPOptions: Sendable {
  /// `--enable-grpc-gateway`.
  public var hasGateway: Bool
  /// `--enable-pprof`: Go's profiler, of which there is none here.
  public var wantsProfiler: Bool
  /// `--metrics=extensive`: with histograms of how long calls take.
  public var hasCallHistograms: Bool
  /// `--cors`.
  public var origins: [String]
  /// `--host-whitelist`.
  public var hosts: [String]
  /// `--listen-metrics-urls`.
  public var listenMetrics: [Endpoint]
  /// `--listen-client-http-urls`; when there are any, the client URLs serve gRPC alone.
  public var listenHTTP: [Endpoint]

  init(_ settings: Settings) throws(ConfigError) {
    hasGateway = settings.flag("enable-grpc-gateway")
    wantsProfiler = settings.flag("enable-pprof")
    hasCallHistograms = settings.text("metrics") == "extensive"
    origins = Self.list(settings.text("cors"))
    hosts = Self.list(settings.text("host-whitelist"))
    listenMetrics = try Endpoint.list("listen-metrics-urls", settings)
    listenHTTP = try Endpoint.list("listen-client-http-urls", settings)
  }

  private static func list(_ text: String) -> [String] {
    text.split(separator: ",").map { $0.filter { $0 != " " } }
  }
}
