internal import Basics

/// The head of an answer.
public struct ResponseHead: Sendable {
  public var status: Int
  public var contentType: String
  /// Further fields; what would break a line out of a value is left out.
  public var headers: [(name: String, value: String)] = []
  public var keepsAlive: Bool
  /// The client speaks HTTP/1.0.
  public var isOld: Bool

  /// What a client that asks first is told (RFC 9110 §10.1.1).
  public static let goOn = [UInt8]("HTTP/1.1 100 Continue\r\n\r\n")

  public init(status: Int, contentType: String, keepsAlive: Bool, isOld: Bool) {
    self.status = status
    self.contentType = contentType
    self.keepsAlive = keepsAlive
    self.isOld = isOld
  }

  private func append(to bytes: inout [UInt8], framing: String) {
    var head = "HTTP/1.1 \(status) \(reasonPhrase(status))\r\n"
    if !contentType.isEmpty { head += "Content-Type: \(contentType)\r\n" }
    for (name, value) in headers {
      head += "\(name): "
      head.unicodeScalars += value.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7f }
      head += "\r\n"
    }
    if !keepsAlive { head += "Connection: close\r\n" }
    if keepsAlive && isOld { head += "Connection: keep-alive\r\n" }
    bytes += Array((head + framing + "\r\n").utf8)
  }

  /// Appends a whole answer with its length; of an answer to HEAD, all but the body.
  public func append(body: RawSpan, isHead: Bool, to bytes: inout [UInt8]) {
    append(to: &bytes, framing: "Content-Length: \(body.byteCount)\r\n")
    if !isHead { bytes.append(contentsOf: body) }
  }

  /// Appends the head of an answer whose body comes in pieces. An old client gets them as they
  /// are, up to the end of the connection: `keepsAlive` is false for it.
  public func appendStreaming(to bytes: inout [UInt8]) {
    precondition(!isOld || !keepsAlive)
    append(to: &bytes, framing: isOld ? "" : "Transfer-Encoding: chunked\r\n")
  }

  /// Appends a piece of such a body; an empty one is nothing.
  public func append(piece: RawSpan, to bytes: inout [UInt8]) {
    guard piece.byteCount > 0 else { return }
    if !isOld { bytes += Array((String(piece.byteCount, radix: 16) + "\r\n").utf8) }
    bytes.append(contentsOf: piece)
    if !isOld { bytes += [13, 10] }
  }

  /// Appends the end of such a body.
  public func appendEnd(to bytes: inout [UInt8]) {
    if !isOld { bytes += [UInt8]("0\r\n\r\n") }
  }
}

/// The text of a status code, for the status line; Go's words, as etcd answers with them.
public func reasonPhrase(_ status: Int) -> String {
  switch status {
  case 100: "Continue"
  case 200: "OK"
  case 201: "Created"
  case 204: "No Content"
  case 307: "Temporary Redirect"
  case 400: "Bad Request"
  case 401: "Unauthorized"
  case 403: "Forbidden"
  case 404: "Not Found"
  case 405: "Method Not Allowed"
  case 408: "Request Timeout"
  case 409: "Conflict"
  case 410: "Gone"
  case 412: "Precondition Failed"
  case 413: "Request Entity Too Large"
  case 415: "Unsupported Media Type"
  case 417: "Expectation Failed"
  case 421: "Misdirected Request"
  case 429: "Too Many Requests"
  case 431: "Request Header Fields Too Large"
  case 499: "Client Closed Request"
  case 500: "Internal Server Error"
  case 501: "Not Implemented"
  case 502: "Bad Gateway"
  case 503: "Service Unavailable"
  case 504: "Gateway Timeout"
  case 505: "HTTP Version Not Supported"
  default: "Status"
  }
}
