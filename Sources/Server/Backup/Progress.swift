internal import Platform

/// A line on the terminal that counts to a hundred; nothing when standard error is none.
final class Progress {
  private let title: String
  private var line = ProgressLine()
  private var shown = -1

  init(_ title: String) { self.title = title }

  func show(_ percent: Int) {
    guard percent != shown else { return }
    shown = percent
    line.show("\(title): \(percent) %")
  }

  func end() {
    show(100)
    line.end()
  }
}
