internal import Glibc

/// Standard output and error, and the end.
public enum Console {
  /// Writes `text` and waits for as long as that takes; what nobody takes is lost.
  public static func write(_ text: String, toError: Bool = false) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let put = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(toError ? 2 : 1, $0.baseAddress! + done, $0.count - done)
      }
      if put <= 0 { return }
      done += put
    }
  }

  /// Ends the process at once.
  public static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

  /// The variables that the process was started with.
  public static func environment() -> [(name: String, value: String)] {
    var found: [(String, String)] = []
    var at = unsafe environ
    while let entry = unsafe at.pointee {
      let text = unsafe String(cString: entry)
      if let split = text.firstIndex(of: "=") {
        found.append((String(text[..<split]), String(text[text.index(after: split)...])))
      }
      unsafe at += 1
    }
    return found.map { (name: $0.0, value: $0.1) }
  }

  /// Whether a person sits before standard error.
  public static var errorIsTerminal: Bool { isatty(2) == 1 }
}
