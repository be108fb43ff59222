internal import Platform

/// A line on the terminal that counts to a hundred; nothing when standard error is none.
final class Progress {
  private let title: String
  private let isShown: Bool
  private var shown = -1

  init(_ title: String) {
    self.title = title
    isShown = Console.errorIsTerminal
  }

  func show(_ percent: Int) {
    guard isShown, percent != shown else { return }
    shown = percent
    Console.write("\r\(title): \(percent) %", toError: true)
  }

  func end() {
    guard isShown else { return }
    Console.write("\r\(title): 100 %\n", toError: true)
  }
}
