/// Where a member is reached: a URL of which only scheme, host and port count.
public struct PeerURL: Hashable, Sendable {
  public var isSecure: Bool
  private var isUnix: Bool
  public var host: String
  public var port: UInt16

  /// Reads `http://host:port`, the same with `https`, `unix` or `unixs`; nil for all else.
  public init?(_ text: String) {
    let schemes = ["http", "https", "unix", "unixs"]
    guard let scheme = schemes.first(where: { text.hasPrefix($0 + "://") }) else { return nil }
    isSecure = scheme.hasSuffix("s")
    isUnix = scheme.hasPrefix("unix")
    let rest = text.dropFirst(scheme.count + 3)
    let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
    guard let colon = authority.lastIndex(of: ":"),
      let port = UInt16(authority[authority.index(after: colon)...]), port > 0
    else { return nil }
    var host = authority[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { return nil }
    self.host = String(host)
    self.port = port
  }

  /// As it was read, but for what does not count.
  public var text: String { (isUnix ? "unix" : "http") + (isSecure ? "s" : "") + "://" + authority }

  /// The Unix socket that is meant, in the directory that the server runs in; nil for TCP.
  public var socketPath: String? { isUnix ? "\(host):\(port)" : nil }

  /// `host:port`, as the Host header has it.
  public var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// Which of a member's URLs is tried: the next one after each failure. etcd: `urlPicker`.
public struct URLPicker: Sendable {
  public private(set) var urls: [PeerURL]
  private var place = 0

  /// What cannot be dialled is left out.
  public init(_ texts: [String]) { urls = texts.compactMap(PeerURL.init) }

  public var current: PeerURL? { urls.isEmpty ? nil : urls[place] }

  /// Goes on to the next URL, unless another failure has done so.
  public mutating func unreachable(_ url: PeerURL) {
    guard !urls.isEmpty, urls[place] == url else { return }
    place = (place + 1) % urls.count
  }
}
