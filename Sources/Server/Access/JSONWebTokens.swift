internal import Auth
internal import Basics
internal import Membership
internal import TLS

/// Makes and reads the JSON Web Tokens that `--auth-token jwt,…` asks for: RFC 7519 tokens with
/// the claims `username`, `revision` and `exp`, as etcd's. etcd: `tokenJWT`.
struct JSONWebTokens: Sendable {
  let key: SigningKey
  /// Seconds.
  let lifetime: Int64

  /// A token; nil when there is only the key to check with.
  func make(for who: Principal, now: Int64) -> [UInt8]? {
    let header = JSON.object([
      .init("alg", .string(key.method.rawValue)), .init("typ", .string("JWT")),
    ])
    let claims = JSON.object([
      .init("exp", .integer(UInt64(clamping: now &+ lifetime))),
      .init("revision", .integer(who.revision)),
      .init("username", .string(String(decoding: who.user, as: UTF8.self))),
    ])
    let text =
      Base64.encode(header.encoded, .url) + [0x2e] + Base64.encode(claims.encoded, .url)
    return key.sign(text).map { text + [0x2e] + Base64.encode($0, .url) }
  }

  /// What a token says; nil when it is not signed with the key by its method, says not all that it
  /// has to, or is not valid yet or any more.
  func read(_ token: [UInt8], now: Int64) -> TokenClaims? {
    // No more pieces than are looked at, whatever the token holds (CVE-2025-30204).
    let parts = token.split(separator: 0x2e, maxSplits: 3, omittingEmptySubsequences: false)
      .map { [UInt8]($0) }
    guard parts.count == 3, let signature = Base64.decode(parts[2], .url),
      let header = Self.document(parts[0]), let claims = Self.document(parts[1]),
      Self.field("alg", of: header)?.text == key.method.rawValue,
      key.verifies(signature, over: parts[0] + [0x2e] + parts[1])
    else { return nil }
    guard let name = Self.field("username", of: claims)?.text,
      let revision = Self.number("revision", of: claims), revision >= 0, revision < 0x1p63
    else { return nil }
    let times = ["exp", "iat", "nbf"].map { Self.field($0, of: claims) }
    let numbers = ["exp", "iat", "nbf"].map { Self.number($0, of: claims) }
    for (time, number) in zip(times, numbers) where time != nil && number == nil { return nil }
    let seconds = Double(now)
    if let issued = numbers[1], issued > seconds { return nil }
    if let start = numbers[2], start > seconds { return nil }
    let expires = numbers[0].map { Int64(min(max($0, 0), 0x1p62)) }
    if let expires, expires <= now { return nil }
    return TokenClaims(
      principal: Principal(user: [UInt8](name.utf8), revision: UInt64(revision)),
      expires: expires)
  }

  private static func document(_ text: [UInt8]) -> JSON? {
    Base64.decode(text, .url).flatMap { try? JSON.parse($0) }
  }

  /// The field of exactly that name.
  private static func field(_ name: String, of document: JSON) -> JSON? {
    guard case .object(let fields) = document else { return nil }
    return fields.last { $0.name == name }?.value
  }

  private static func number(_ name: String, of document: JSON) -> Double? {
    guard case .number(let digits) = field(name, of: document) else { return nil }
    return Double(String(decoding: digits, as: UTF8.self))
  }
}
