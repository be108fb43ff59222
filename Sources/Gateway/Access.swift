/// Who may ask by plain HTTP: by Origin (CORS) and by Host, against DNS rebinding
/// (CVE-2018-5702). etcd: embed/serve.go `accessController`.
public struct Access: Sendable {
  private let origins: [String]
  private let hosts: [String]

  /// Lists as `--cors` and `--host-whitelist` have them; empty ones and `*` allow all.
  public init(origins: [String], hosts: [String]) {
    self.origins = origins
    self.hosts = hosts
  }

  private static func allows(_ list: [String], _ value: String) -> Bool {
    list.isEmpty || list.contains("*") || list.contains(value)
  }

  /// The CORS fields of an answer to a request from `origin`, in etcd's order.
  public func fields(origin: String) -> [(name: String, value: String)] {
    let allowed: String
    if Self.allows(origins, "*") {
      allowed = "*"
    } else if !origin.isEmpty, origins.contains(origin) {
      allowed = origin
    } else {
      return []
    }
    return [
      ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
      ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
      ("Access-Control-Allow-Origin", allowed),
    ]
  }

  /// Why a request in clear for `host`, the Host field with its port, is refused with status 421;
  /// nil when it is not.
  public func refusal(host: String) -> String? {
    let name = Self.name(host)
    if Self.allows(hosts, name) { return nil }
    return """

      etcd received your request, but the Host header was unrecognized.

      To fix this, choose one of the following options:
      - Enable TLS, then any HTTPS request will be allowed.
      - Add the hostname you want to use to the whitelist in settings.
        - e.g. etcd --host-whitelist "\(name)"

      This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).

      """
  }

  /// A Host field without its port, and without the brackets of an IPv6 address.
  static func name(_ host: String) -> String {
    if host.hasPrefix("["), let end = host.firstIndex(of: "]") {
      return String(host[host.index(after: host.startIndex)..<end])
    }
    guard let colon = host.lastIndex(of: ":"), host.firstIndex(of: ":") == colon else {
      return host
    }
    return String(host[..<colon])
  }
}
