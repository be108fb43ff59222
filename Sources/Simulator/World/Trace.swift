/// What has happened, as a hash and, when wanted, as text.
struct Trace {
  private(set) var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  private(set) var eventCount: UInt64 = 0
  let isPrinted: Bool

  init(isPrinted: Bool) { self.isPrinted = isPrinted }

  mutating func add(_ value: UInt64) { hash = (hash ^ value) &* 0x0000_0100_0000_01b3 }

  mutating func event(_ kind: UInt64, at time: UInt64, host: Int) {
    eventCount += 1
    add(time)
    add(kind << 32 | UInt64(truncatingIfNeeded: host))
  }

  /// Prints a line for a person; costs nothing when nobody reads.
  func note(_ time: UInt64, _ text: @autoclosure () -> String) {
    guard isPrinted else { return }
    let micros = time / 1000
    let fraction = String(micros % 1_000_000)
    let padding = String(repeating: "0", count: 6 - fraction.count)
    print("\(micros / 1_000_000).\(padding)\(fraction) \(text())")
  }
}
