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
