internal import Config

/// A command line as etcdutl reads it: words, and `--flag value`, `--flag=value` or `-w value`
/// anywhere between them.
struct Words {
  struct Refusal: Error { var text: String }

  private var arguments: ArraySlice<String>
  private(set) var plain: [String] = []
  private var values: [String: String] = [:]

  init(_ arguments: [String]) { self.arguments = arguments[...] }

  mutating func next() -> String? { arguments.popFirst() }

  subscript(flag: String) -> String? { values[flag] }
  func isOn(_ flag: String) -> Bool { values[flag] == "true" }

  /// What a switch is set to; nil when it is not given. Go: strconv.ParseBool.
  func boolean(_ flag: String) throws(Refusal) -> Bool? {
    guard let text = values[flag] else { return nil }
    guard let value = Settings.boolean(text) else {
      throw Refusal(text: "invalid argument \"\(text)\" for \"--\(flag)\" flag: it is no boolean")
    }
    return value
  }

  /// What a flag has as a duration; nil when it is not given.
  func nanoseconds(_ flag: String) throws(Refusal) -> UInt64? {
    guard let text = values[flag] else { return nil }
    guard let value = Settings.nanoseconds(text) else {
      throw Refusal(text: "invalid argument \"\(text)\" for \"--\(flag)\" flag: it is no duration")
    }
    return value
  }

  /// Takes from variables what the line leaves open: `ETCDCTL_CACERT` is `--cacert`. One that is
  /// given both ways is refused; gives those with the prefix that are no flag's.
  /// etcd: `flags.SetPflagsFromEnv`.
  mutating func complete(
    _ flags: Set<String>, from environment: [(name: String, value: String)], prefix: String
  ) throws(Refusal) -> [String] {
    let given = Set(values.keys)
    var unknown: [String] = []
    for (name, value) in environment where name.hasPrefix(prefix) {
      let rest = name.dropFirst(prefix.count)
      let flag = rest.lowercased().map { $0 == "_" ? "-" : String($0) }.joined()
      guard rest == rest.uppercased(), flags.contains(flag) else {
        unknown.append(name)
        continue
      }
      guard !given.contains(flag) else {
        throw Refusal(
          text: "conflicting environment variable is shadowed by corresponding command-line flag "
            + "(either unset environment variable or disable flag): \(name)")
      }
      if !value.isEmpty { values[flag] = value }
    }
    return unknown
  }

  /// Reads what is left. cobra: the texts of its refusals.
  mutating func parse(flags: Set<String>, switches: Set<String>) throws(Refusal) {
    while let word = next() {
      guard word.hasPrefix("-"), word.count > 1 else {
        plain.append(word)
        continue
      }
      if word == "--" {
        plain += arguments
        arguments = []
        return
      }
      var name = String(word.drop { $0 == "-" })
      var value: String?
      if !word.hasPrefix("--") {
        guard name.hasPrefix("w") else {
          throw Refusal(
            text: "unknown shorthand flag: '\(name.prefix(1))' in \(word)")
        }
        let rest = name.dropFirst()
        if !rest.isEmpty { value = String(rest.first == "=" ? rest.dropFirst() : rest) }
        name = "write-out"
      } else if let equals = name.firstIndex(of: "=") {
        value = String(name[name.index(after: equals)...])
        name = String(name[..<equals])
      }
      if switches.contains(name) {
        values[name] = value ?? "true"
      } else if flags.contains(name) {
        guard let found = value ?? next() else {
          throw Refusal(text: "flag needs an argument: \(word)")
        }
        values[name] = found
      } else {
        throw Refusal(text: "unknown flag: \(word.split(separator: "=")[0])")
      }
    }
  }
}
