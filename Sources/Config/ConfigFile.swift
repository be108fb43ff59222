internal import YAML

extension Settings {
  /// Keys of the file whose names are not their flags'.
  private static let otherNames = [
    "experimental-snapshot-catch-up-entries": "experimental-snapshot-catchup-entries"
  ]

  /// What the keys of the two blocks on certificates set. etcd: `securityConfig`; it has no key
  /// for a revocation list.
  private static let securityKeys: [String: (client: String, peer: String)] = [
    "cert-file": ("cert-file", "peer-cert-file"),
    "key-file": ("key-file", "peer-key-file"),
    "client-cert-file": ("client-cert-file", "peer-client-cert-file"),
    "client-key-file": ("client-key-file", "peer-client-key-file"),
    "client-cert-auth": ("client-cert-auth", "peer-client-cert-auth"),
    "trusted-ca-file": ("trusted-ca-file", "peer-trusted-ca-file"),
    "auto-tls": ("auto-tls", "peer-auto-tls"),
    "allowed-cn": ("client-cert-allowed-cn", "peer-cert-allowed-cn"),
    "allowed-hostname": ("client-cert-allowed-hostname", "peer-cert-allowed-hostname"),
    "crl-file": ("client-crl-file", "peer-crl-file"),
  ]

  /// Reads a YAML file as etcd does (server/embed/config.go configFromFile): keys are flags'
  /// names, those of certificates stand in blocks, and what is not known is passed over.
  mutating func take(file bytes: [UInt8], _ path: String) throws(ConfigError) {
    let document: Node?
    do throws(YAMLError) {
      document = try YAML.parse(bytes)
    } catch {
      throw ConfigError("\(path): line \(error.line): \(error.text)")
    }
    guard let document, !document.isNull else { return }
    guard case .mapping(let pairs) = document else {
      throw ConfigError("\(path): the file must hold keys and values")
    }
    for pair in pairs {
      let key = pair.key.lowercased()
      switch key {
      case "client-transport-security": try take(block: pair, path) { $0.client }
      case "peer-transport-security": try take(block: pair, path) { $0.peer }
      case "socket-options":
        for option in try Self.pairs(pair, path) {
          guard ["reuse-port", "reuse-address"].contains(option.key) else { continue }
          try take(option, as: "socket-\(option.key)", path)
        }
      default:
        let name = Self.otherNames[key] ?? key
        guard let flag = Self.table[name], Self.isTopLevel(flag) else {
          notes.append(
            ("this key of the configuration file is not known and ignored", pair.key))
          continue
        }
        try take(pair, as: name, path)
      }
    }
  }

  /// Whether a flag has a key of its own: those of certificates have theirs in the blocks.
  private static func isTopLevel(_ flag: Flag) -> Bool {
    if flag.group == .outdated || ["config-file", "version"].contains(flag.name) { return false }
    return !securityKeys.values.contains { $0.client == flag.name || $0.peer == flag.name }
  }

  private mutating func take(
    block: Node.Pair, _ path: String, _ side: ((client: String, peer: String)) -> String
  ) throws(ConfigError) {
    for pair in try Self.pairs(block, path) {
      guard let names = Self.securityKeys[pair.key.lowercased()] else {
        notes.append(
          (
            "this key of the configuration file is not known and ignored",
            "\(block.key).\(pair.key)"
          ))
        continue
      }
      try take(pair, as: side(names), path)
    }
  }

  private static func pairs(
    _ block: Node.Pair, _ path: String
  ) throws(ConfigError) -> [Node.Pair] {
    if block.value.isNull { return [] }
    guard case .mapping(let pairs) = block.value else {
      throw ConfigError("\(path): line \(block.line): \(block.key) must hold keys and values")
    }
    return pairs
  }

  private mutating func take(
    _ pair: Node.Pair, as name: String, _ path: String
  ) throws(ConfigError) {
    guard let flag = Self.table[name], !pair.value.isNull else { return }
    func refuse(_ what: String) -> ConfigError {
      ConfigError("\(path): line \(pair.line): \(pair.key): \(what)")
    }
    switch pair.value {
    case .scalar(let text, let isQuoted):
      var text = text
      switch flag.kind {
      case .boolean:
        guard let value = Self.yamlBoolean(text) else {
          throw refuse("\"\(text)\" is neither true nor false")
        }
        text = value ? "true" : "false"
      case .duration where !isQuoted && Int64(text) != nil: text += "ns"
      case .text where isQuoted && text.isEmpty:
        // As for a flag that is given empty: the default of a member's name and the like stays.
        return
      default: break
      }
      try set(flag, text, .file)
    case .sequence(let items):
      guard Flag.lists.contains(name) else { throw refuse("a list does not fit here") }
      var texts: [String] = []
      for item in items {
        guard case .scalar(let text, _) = item else { throw refuse("a list of texts is wanted") }
        texts.append(text)
      }
      try set(flag, texts.joined(separator: ","), .file)
    case .mapping: throw refuse("keys and values do not fit here")
    }
  }

  /// What YAML 1.1 takes for a truth value.
  private static func yamlBoolean(_ text: String) -> Bool? {
    switch text.lowercased() {
    case "true", "yes", "on", "y": true
    case "false", "no", "off", "n": false
    default: nil
    }
  }
}
