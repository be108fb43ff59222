/// A line on standard error that is written over again and again, where a person sits before it.
public struct ProgressLine {
  private let isTerminal: Bool
  private var width = 0

  public init() { isTerminal = Console.errorIsTerminal }

  /// Shows `text` in place of what was shown before; nothing when standard error is no terminal.
  public mutating func show(_ text: String) {
    guard isTerminal else { return }
    let padding = String(repeating: " ", count: max(0, width - text.count))
    Console.write("\r\(text)\(padding)", toError: true)
    width = text.count
  }

  /// Leaves what was shown last.
  public mutating func end() {
    guard width > 0 else { return }
    Console.write("\n", toError: true)
    width = 0
  }

  /// Takes away what was shown last.
  public mutating func clear() {
    guard width > 0 else { return }
    show("")
    Console.write("\r", toError: true)
  }
}
