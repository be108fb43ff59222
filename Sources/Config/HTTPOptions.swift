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

  init(_ settings: Settings) {
    hasGateway = settings.flag("enable-grpc-gateway")
    wantsProfiler = settings.flag("enable-pprof")
    hasCallHistograms = settings.text("metrics") == "extensive"
    origins = Self.list(settings.text("cors"))
    hosts = Self.list(settings.text("host-whitelist"))
  }

  private static func list(_ text: String) -> [String] {
    text.split(separator: ",").map { $0.filter { $0 != " " } }
  }
}
