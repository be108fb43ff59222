/// A listen or advertise URL of etcd: scheme, host and port.
public struct Endpoint: Hashable, Sendable {
  public enum Scheme: String, Sendable { case http, https, unix, unixs }
  public var scheme: Scheme
  public var host: String
  public var port: UInt16

  public var text: String {
    switch scheme {
    case .unix, .unixs: "\(scheme.rawValue)://\(host):\(port)"
    case .http, .https: "\(scheme.rawValue)://\(host.contains(":") ? "[\(host)]" : host):\(port)"
    }
  }

  public var isSecure: Bool { scheme == .https || scheme == .unixs }

  /// Reads the comma-separated list that a flag has (etcd: client/pkg/types NewURLs), sorted as
  /// etcd sorts it, each once.
  static func list(_ name: String, _ settings: Settings) throws(ConfigError) -> [Endpoint] {
    var found: [Endpoint] = []
    for part in settings.text(name).split(separator: ",", omittingEmptySubsequences: true) {
      let url = try parse(part.filter { $0 != " " }, name, settings)
      if !found.contains(url) { found.append(url) }
    }
    return found.sorted { $0.text < $1.text }
  }

  static func parse(
    _ text: String, _ name: String, _ settings: Settings
  ) throws(ConfigError) -> Endpoint {
    func refuse(_ why: String) -> ConfigError { settings.refusal(name, text, why) }
    let schemes: [Scheme] = [.https, .http, .unixs, .unix]
    guard let scheme = schemes.first(where: { text.hasPrefix("\($0.rawValue)://") }) else {
      throw refuse("URL scheme must be http, https, unix, or unixs: \(text)")
    }
    let rest = text.dropFirst(scheme.rawValue.count + 3)
    guard let colon = rest.lastIndex(of: ":"), !rest.contains("/") else {
      if rest.contains("/") && scheme != .unix && scheme != .unixs {
        throw refuse("URL must not contain a path: \(text)")
      }
      throw refuse("URL address does not have the form \"host:port\": \(text)")
    }
    guard let port = UInt16(rest[rest.index(after: colon)...]) else {
      throw refuse("URL address does not have the form \"host:port\": \(text)")
    }
    var host = String(rest[..<colon])
    if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
    return Endpoint(scheme: scheme, host: host, port: port)
  }

  /// Whether the host is one that a socket can be bound to: an address, or `localhost`.
  var isBindable: Bool {
    guard scheme == .http || scheme == .https else { return true }
    if host.isEmpty || host == "localhost" || host.contains(":") { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
  }
}

/// One member of `--initial-cluster`: its name and its peer URLs, sorted.
public struct InitialMember: Equatable, Sendable {
  public var name: String
  public var peerURLs: [String]
  public init(name: String, peerURLs: [String]) {
    self.name = name
    self.peerURLs = peerURLs
  }
}
