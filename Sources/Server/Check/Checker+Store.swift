internal import Basics
internal import Config
internal import LMDB
internal import MVCC
internal import Platform
internal import Raft
internal import WAL

extension Checker {
  mutating func checkStore() {
    guard FileSystem.exists(store) else {
      if let log, log.lastIndex > .zero, snapshot != nil {
        wrong("store", "\(store) is missing, and the log does not reach back to the beginning")
      } else {
        note("store", "\(store) is not there; a start makes it from the log")
      }
      return
    }
    guard let pages = checkPages() else { return }
    guard pages.pageCount > 0 else {
      return note("store", "\(store) is empty; a start makes it from the log")
    }
    fine(
      "pages",
      "\(store): \(pages.pageCount) pages, \(pages.treePages) in use, \(pages.freePages) free")
    checkRows()
  }

  private mutating func checkPages() -> PageCheck? {
    var line = progress
    defer { progress = line }
    do throws(PageCheckError) {
      return try PageCheck.run(path: store) { done, all in
        line.show("checking pages: \(done * 100 / max(1, all)) %")
      }
    } catch {
      switch error {
      case .damaged(let damage): wrong("pages", damage.text)
      case .unreadable(let text): wrong("pages", text)
      }
      return nil
    }
  }

  private mutating func checkRows() {
    var line = progress
    line.show("reading rows")
    let report: StoreReport
    do throws(BackendError) {
      let backend = try LMDBBackend.openForReading(path: store)
      report = try Store.verify(backend: backend) { rows in line.show("reading rows: \(rows)") }
      progress = line
      try checkOthers(backend, report)
    } catch {
      progress = line
      return wrong("rows", BackgroundThread.text(error))
    }
    for finding in report.findings { wrong("rows", "\(store): \(finding)") }
    if report.findingCount > report.findings.count {
      wrong("rows", "\(report.findingCount - report.findings.count) further rows are wrong")
    }
    if report.findingCount == 0 {
      fine(
        "rows",
        "\(report.rows) rows of \(report.keys) keys, revision \(report.currentRevision), compacted "
          + "at \(report.compactRevision)")
    }
    checkIndex(report)
  }

  /// The rows of members, leases, alarms and so on, as a start reads them.
  private mutating func checkOthers(
    _ backend: LMDBBackend, _ report: StoreReport
  ) throws(BackendError) {
    do throws(StartError) {
      try readAsStart(backend)
    } catch {
      wrong("rows", error.text)
    }
    var leases: Set<Int64> = []
    let reader = try backend.makeReader()
    try reader.renew()
    try reader.scan(.lease, from: RawSpan(), to: RawSpan()) { key, _ in
      var id: UInt64 = 0
      for at in 0..<min(8, key.byteCount) { id = id << 8 | UInt64(key[at]) }
      leases.insert(Int64(bitPattern: id))
      return true
    }
    reader.reset()
    var orphans = 0
    for key in report.leased where !leases.contains(key.lease.rawValue) {
      orphans += 1
      guard orphans <= 10 else { continue }
      let name = key.key.prefix(64).map { (0x20..<0x7f).contains($0) ? $0 : 0x3f }
      wrong(
        "leases",
        "key '\(String(decoding: name, as: UTF8.self))' is held by lease "
          + "\(String(key.lease.rawValue, radix: 16)), which is not there")
    }
    if orphans > 10 { wrong("leases", "\(orphans - 10) further keys are held by missing leases") }
    if orphans == 0 {
      fine("leases", "leases: \(leases.count), keys held by them: \(report.leased.count)")
    }
  }

  private func readAsStart(_ backend: LMDBBackend) throws(StartError) {
    let options: Options
    do {
      options = try Options(Settings(arguments: [], environment: []))
    } catch {
      throw StartError(error.text)
    }
    _ = try Recovery.open(
      backend, snapshot, try Identity(options), options, Clock.wall() / 1_000_000_000,
      Logger(level: "error"))
  }

  /// Whether store, log and snapshot belong together, as a start asks.
  private mutating func checkIndex(_ report: StoreReport) {
    guard let log else {
      return note("index", "the store holds entry \(report.consistentIndex.rawValue)")
    }
    let held = report.consistentIndex
    let first = snapshot?.metadata.index ?? .zero
    guard held <= log.lastIndex else {
      return wrong(
        "index",
        "the store holds entry \(held.rawValue), the log ends at \(log.lastIndex.rawValue): part "
          + "of the log is missing")
    }
    guard held >= first else {
      return wrong(
        "index",
        "the store ends at entry \(held.rawValue), the log begins behind \(first.rawValue): the "
          + "store is too old for this log")
    }
    let term = log.term(at: held)
    guard term == .zero || report.consistentTerm == .zero || term == report.consistentTerm else {
      return wrong(
        "index",
        "the store holds entry \(held.rawValue) of term \(report.consistentTerm.rawValue), in the "
          + "log it is of term \(term.rawValue): they are of different histories")
    }
    let more = log.lastIndex - held
    fine(
      "index",
      "the store holds entry \(held.rawValue); "
        + (more == 0 ? "the log ends there" : "the log has \(more) after it"))
  }
}
