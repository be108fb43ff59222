internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
internal import Services

/// The header fields of a request that matter here.
struct Head {
  private let arena: [UInt8]
  var method = Slice.empty
  var path = Slice.empty
  var token = Slice.empty
  var clientVersion = Slice.empty
  var timeout: UInt64?
  var needsLeader = false
  /// Whether a gateway speaks for its own client, with a certificate that is the gateway's.
  var isProxied = false
  var isGRPC = false
  private var timeoutText = Slice.empty
  private var encoding = Slice.empty

  init(_ session: Session, _ range: Range<Int>) {
    let arena = session.eventBytes
    self.arena = arena
    for field in session.fields[range] {
      let name = arena.rawSpan.extracting(field.name)
      switch name.byteCount {
      case 5 where Self.matches(name, ":path"): path = field.value
      case 7 where Self.matches(name, ":method"): method = field.value
      case 12 where Self.matches(name, "content-type"):
        isGRPC = Self.isGRPC(arena.rawSpan.extracting(field.value))
      case 12 where Self.matches(name, "grpc-timeout"):
        timeoutText = field.value
        timeout = timeoutNanoseconds(arena.rawSpan.extracting(field.value))
      case 9 where Self.matches(name, "hasleader"):
        needsLeader = Self.matches(arena.rawSpan.extracting(field.value), "true")
      case 5 where Self.matches(name, "token"): token = field.value
      case 13 where Self.matches(name, "authorization") && token.isEmpty: token = field.value
      case 13 where Self.matches(name, "grpc-encoding"): encoding = field.value
      case 18 where Self.matches(name, "grpcgateway-accept"): isProxied = true
      case 18 where Self.matches(name, "client-api-version"): clientVersion = field.value
      default: break
      }
    }
  }

  func text(_ slice: Slice) -> String { String(decoding: arena[slice.range], as: UTF8.self) }
  func bytes(_ slice: Slice) -> [UInt8] { slice.isEmpty ? [] : Array(arena[slice.range]) }

  private static func matches(_ bytes: RawSpan, _ text: StaticString) -> Bool {
    bytes.byteCount == text.utf8CodeUnitCount && begins(bytes, text)
  }

  private static func begins(_ bytes: RawSpan, _ text: StaticString) -> Bool {
    guard bytes.byteCount >= text.utf8CodeUnitCount else { return false }
    for i in 0..<text.utf8CodeUnitCount where unsafe bytes[i] != text.utf8Start[i] { return false }
    return true
  }

  /// `application/grpc`, alone or followed by a codec or a parameter.
  private static func isGRPC(_ type: RawSpan) -> Bool {
    guard begins(type, "application/grpc") else { return false }
    return type.byteCount == 16 || type[16] == UInt8(ascii: "+") || type[16] == UInt8(ascii: ";")
  }

  /// The request that is not gRPC's, without its body.
  func plain(_ session: Session, _ range: Range<Int>) -> Request {
    let halves = text(path).split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var request = Request(
      method: text(method), path: halves.first.map(String.init) ?? "",
      query: halves.count > 1 ? String(halves[1]) : "", isOld: false, keepsAlive: true)
    for field in session.fields[range] {
      let name = text(field.name)
      request.headers.append((name == ":authority" ? "host" : name, text(field.value)))
    }
    return request
  }

  /// What is wrong with a call's headers, in grpc-go's words.
  func wrong() -> (http: Int, status: Status)? {
    guard text(method) == "POST" else {
      let text = "Received a HEADERS frame with :method \"\(text(method))\" which should be POST"
      return (405, Status(.internalError, text))
    }
    guard timeout == nil, !timeoutText.isEmpty else { return nil }
    let value = text(timeoutText)
    let reason =
      switch value.utf8.count {
      case ..<2: "transport: timeout string is too short: \"\(value)\""
      case 10...: "transport: timeout string is too long: \"\(value)\""
      default:
        "HMSmun".contains(value.suffix(1))
          ? "strconv.ParseInt: parsing \"\(value.dropLast())\": invalid syntax"
          : "transport: timeout unit is not recognized: \"\(value)\""
      }
    return (400, Status(.internalError, "malformed grpc-timeout: \(reason)"))
  }

  static let compressed = Status(
    .internalError, "grpc: compressed flag set with identity or empty encoding")

  var isGzip: Bool { text(encoding) == "gzip" }

  /// Why the call cannot be taken at all.
  func refusal() -> Status? {
    guard !encoding.isEmpty, text(encoding) != "identity", !isGzip else { return nil }
    return Status(
      .unimplemented,
      "grpc: Decompressor is not installed for grpc-encoding \"\(text(encoding))\"")
  }

  /// grpc-go's words for a path that is not served.
  static func unknown(_ path: String) -> Status {
    let name = path.hasPrefix("/") ? path.dropFirst() : path[...]
    guard let slash = name.lastIndex(of: "/") else {
      return Status(.unimplemented, "malformed method name: \"\(path)\"")
    }
    let (service, method) = (name[..<slash], name[name.index(after: slash)...])
    let prefix = "/\(service)/"
    let isKnown = Method.allCases.contains { String(describing: $0.path).hasPrefix(prefix) }
    return isKnown
      ? Status(.unimplemented, "unknown method \(method) for service \(service)")
      : Status(.unimplemented, "unknown service \(service)")
  }
}
