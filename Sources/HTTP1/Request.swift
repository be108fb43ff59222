/// A whole HTTP/1.1 request.
public struct Request: Sendable {
  public var method: String
  /// The target up to `?`; of a target in absolute form, its path.
  public var path: String
  /// What follows `?`, or empty.
  public var query: String
  /// Names in lower case.
  public var headers: [(name: String, value: String)] = []
  public var body: [UInt8] = []
  /// Whether the client speaks HTTP/1.0, which knows no chunks.
  public var isOld: Bool
  /// Whether the connection stays open after the answer.
  public var keepsAlive: Bool

  public init(method: String, path: String, query: String, isOld: Bool, keepsAlive: Bool) {
    self.method = method
    self.path = path
    self.query = query
    self.isOld = isOld
    self.keepsAlive = keepsAlive
  }

  public func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
}

/// Why a request is refused, with the status to answer. The connection is closed after it: where
/// the next request would begin is not known.
public struct Refusal: Error, Equatable, Sendable {
  public var status: Int
  public var reason: String
  public init(_ status: Int, _ reason: String) {
    self.status = status
    self.reason = reason
  }
}
