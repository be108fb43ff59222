internal import Glibc

extension Console {
  /// Asks the person at the terminal for a line that is not shown; nil when there is none.
  public static func ask(_ prompt: String) -> String? {
    guard isatty(0) == 1 else { return nil }
    var before = termios()
    guard unsafe tcgetattr(0, &before) == 0 else { return nil }
    var silent = before
    silent.c_lflag &= ~tcflag_t(ECHO)
    unsafe tcsetattr(0, TCSAFLUSH, &silent)
    defer { unsafe tcsetattr(0, TCSAFLUSH, &before) }
    write(prompt, toError: true)
    let line = readLine()
    write("\n", toError: true)
    return line
  }
}
