internal import Config
internal import Peers
internal import Platform
internal import TLS

/// How a command reaches a server, and as whom: etcdctl's global flags and variables.
/// etcd: etcdctl/ctlv3/command/global.go.
struct ClientOptions {
  static let flags: Set<String> = [
    "endpoints", "cacert", "cert", "key", "user", "password", "dial-timeout", "command-timeout",
  ]
  static let switches: Set<String> = ["insecure-transport", "insecure-skip-tls-verify"]

  private enum Limits {
    static let fileBytes = 16 << 20
  }

  /// As it was given.
  let endpoint: String
  let url: PeerURL
  /// Nil: in clear.
  let tls: TLSContext?
  /// Empty where there are no users.
  let user: String
  let password: String
  let dialNanoseconds: UInt64
  /// Nil: however long it takes.
  let commandNanoseconds: UInt64?

  init(_ line: Words) throws(Words.Refusal) {
    endpoint = line["endpoints"] ?? "127.0.0.1:2379"
    guard !endpoint.contains(",") else {
      throw Words.Refusal(
        text: "snapshot must be requested to one selected node, not multiple "
          + "[\(endpoint.map { $0 == "," ? " " : String($0) }.joined())]")
    }
    let context = try Self.context(line)
    let isInsecure = try line.boolean("insecure-transport") ?? true
    let isInClear = context == nil && isInsecure
    guard
      let url = PeerURL(
        endpoint.contains("://") ? endpoint : (isInClear ? "http://" : "https://") + endpoint)
    else {
      throw Words.Refusal(text: "\(endpoint) does not have the form \"host:port\"")
    }
    self.url = url
    // A socket's scheme leaves it open, as a plain address does.
    let isSecure = url.isSecure || url.socketPath != nil && !isInClear
    if let context {
      tls = isSecure ? context : nil
    } else {
      tls = isSecure ? try Self.make(TLSSettings(), line) : nil
    }
    (user, password) = try Self.user(line)
    dialNanoseconds = try line.nanoseconds("dial-timeout") ?? 2_000_000_000
    commandNanoseconds = try line.nanoseconds("command-timeout")
  }

  /// Nil when no file is named.
  private static func context(_ line: Words) throws(Words.Refusal) -> TLSContext? {
    func contents(_ flag: String) throws(Words.Refusal) -> [UInt8] {
      guard let path = line[flag] else { return [] }
      guard !path.isEmpty else {
        throw Words.Refusal(text: "empty string is passed to --\(flag) option")
      }
      do throws(Errno) {
        return try FileSystem.contents(path, bytesMax: Limits.fileBytes)
      } catch {
        throw Words.Refusal(text: "open \(path): \(lowercased(error))")
      }
    }
    let names = ["cacert", "cert", "key"].map { line[$0] }
    guard names.contains(where: { $0 != nil }) else { return nil }
    var settings = TLSSettings()
    settings.authorities = try contents("cacert")
    settings.certificate = try contents("cert")
    settings.key = try contents("key")
    guard (names[1] == nil) == (names[2] == nil) else {
      throw Words.Refusal(
        text: "KeyFile and CertFile must both be present[key: \(names[2] ?? ""), cert: "
          + "\(names[1] ?? "")]")
    }
    return try make(settings, line)
  }

  private static func make(
    _ settings: TLSSettings, _ line: Words
  ) throws(Words.Refusal) -> TLSContext {
    var settings = settings
    let isBlind = try line.boolean("insecure-skip-tls-verify") ?? false
    settings.verifies = !isBlind
    do throws(TLSError) {
      return try TLSContext.make(settings, .client)
    } catch {
      throw Words.Refusal(text: error.text)
    }
  }

  private static func user(
    _ line: Words
  ) throws(Words.Refusal) -> (name: String, password: String) {
    guard let user = line["user"], !user.isEmpty else { return ("", "") }
    if let password = line["password"], !password.isEmpty { return (user, password) }
    if let colon = user.firstIndex(of: ":") {
      return (String(user[..<colon]), String(user[user.index(after: colon)...]))
    }
    guard let password = Console.ask("Password: ") else {
      throw Words.Refusal(
        text: "--user takes a name and a password with a colon between them, or --password the "
          + "password")
    }
    return (user, password)
  }
}
