internal import Basics
internal import MVCC
internal import Platform

/// What a check says, line by line.
struct CheckReport {
  private enum Limits {
    /// Keys without their lease that are named.
    static let leases = 10
  }

  /// Faults found and not repaired.
  private(set) var faults = 0
  var progress = ProgressLine()

  private mutating func line(_ kind: String, _ part: String, _ text: String) {
    progress.clear()
    func pad(_ text: String) -> String {
      text + String(repeating: " ", count: max(1, 10 - text.count))
    }
    Console.write(pad(kind) + pad(part) + text + "\n")
  }

  mutating func fine(_ part: String, _ text: String) { line("ok", part, text) }
  /// What an operator may want to know and no start minds.
  mutating func note(_ part: String, _ text: String) { line("note", part, text) }
  mutating func repaired(_ part: String, _ text: String) { line("repaired", part, text) }
  mutating func wrong(_ part: String, _ text: String) {
    faults += 1
    line("wrong", part, text)
  }

  mutating func end() {
    progress.clear()
    Console.write(
      faults == 0 ? "nothing is wrong\n" : "\(faults) fault\(faults == 1 ? "" : "s") found\n")
  }

  /// Checks the rows of bucket `key` of what lies at `path`; nil when they cannot be read.
  mutating func checkRows(_ backend: some Backend, _ path: String) -> StoreReport? {
    var line = progress
    line.show("reading rows")
    let found: StoreReport
    do throws(BackendError) {
      found = try Store.verify(backend: backend) { rows in line.show("reading rows: \(rows)") }
    } catch {
      progress = line
      let text = error.text
      wrong("rows", text.contains(path) ? text : "\(path): \(text)")
      return nil
    }
    progress = line
    for finding in found.findings { wrong("rows", "\(path): \(finding)") }
    if found.findingCount > found.findings.count {
      wrong("rows", "\(found.findingCount - found.findings.count) further rows are wrong")
    }
    if found.findingCount == 0 {
      fine(
        "rows",
        "\(found.rows) rows of \(found.keys) keys, revision \(found.currentRevision), compacted "
          + "at \(found.compactRevision)")
    }
    return found
  }

  /// Checks that the leases which keys name are there.
  mutating func checkLeases(
    _ backend: some Backend, _ found: StoreReport
  ) throws(BackendError) {
    var leases: Set<Int64> = []
    var reader = try backend.makeReader()
    try reader.renew()
    try reader.scan(.lease, from: RawSpan(), to: RawSpan()) { key, _ in
      if key.byteCount >= 8 { leases.insert(Int64(bitPattern: key.bigEndian())) }
      return true
    }
    reader.reset()
    var orphans = 0
    for key in found.leased where !leases.contains(key.lease.rawValue) {
      orphans += 1
      guard orphans <= Limits.leases else { continue }
      let name = key.key.prefix(64).map { (0x20..<0x7f).contains($0) ? $0 : 0x3f }
      wrong(
        "leases",
        "key '\(String(decoding: name, as: UTF8.self))' is held by lease "
          + "\(String(key.lease.rawValue, radix: 16)), which is not there")
    }
    if orphans > Limits.leases {
      wrong("leases", "\(orphans - Limits.leases) further keys are held by missing leases")
    }
    if orphans == 0 {
      fine("leases", "leases: \(leases.count), keys held by them: \(found.leased.count)")
    }
  }
}
