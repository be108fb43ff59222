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
        report.wrong(
          "store", "\(store) is missing, and the log does not reach back to the beginning")
      } else {
        report.note("store", "\(store) is not there; a start makes it from the log")
      }
      return
    }
    guard let pages = checkPages() else { return }
    guard pages.pageCount > 0 else {
      return report.note("store", "\(store) is empty; a start makes it from the log")
    }
    report.fine(
      "pages",
      "\(store): \(pages.pageCount) pages, \(pages.treePages) in use, \(pages.freePages) free")
    checkRows()
  }

  private mutating func checkPages() -> PageCheck? {
    var line = report.progress
    do throws(PageCheckError) {
      let found = try PageCheck.run(path: store) { done, all in
        line.show("checking pages: \(done * 100 / max(1, all)) %")
      }
      report.progress = line
      return found
    } catch {
      report.progress = line
      switch error {
      case .damaged(let damage): report.wrong("pages", damage.text)
      case .unreadable(let text): report.wrong("pages", text)
      }
      return nil
    }
  }

  private mutating func checkRows() {
    do throws(BackendError) {
      let backend = try LMDBBackend.openForReading(path: store)
      guard let found = report.checkRows(backend, store) else { return }
      try checkOthers(backend, found)
      checkIndex(found)
    } catch {
      report.wrong("rows", error.text)
    }
  }

  /// The rows of members, leases, alarms and so on, as a start reads them.
  private mutating func checkOthers(
    _ backend: LMDBBackend, _ found: StoreReport
  ) throws(BackendError) {
    do throws(StartError) {
      try readAsStart(backend)
    } catch {
      report.wrong("rows", error.text)
    }
    try report.checkLeases(backend, found)
  }

  private func readAsStart(_ backend: LMDBBackend) throws(StartError) {
    let options: Options
    do {
      options = try Options(Settings(arguments: [], environment: []))
    } catch {
      throw StartError(error.text)
    }
    let opening = ReplicaOpening(options, try Identity(options), Clock.wall() / 1_000_000_000)
    var log = LogOptions()
    log.level = "error"
    _ = try Recovery.open(opening, backend, snapshot, try Logger(log))
  }

  /// Whether store, log and snapshot belong together, as a start asks.
  private mutating func checkIndex(_ found: StoreReport) {
    guard let log else {
      return report.note("index", "the store holds entry \(found.consistentIndex.rawValue)")
    }
    let held = found.consistentIndex
    let first = snapshot?.metadata.index ?? .zero
    guard held <= log.lastIndex else {
      return report.wrong(
        "index",
        "the store holds entry \(held.rawValue), the log ends at \(log.lastIndex.rawValue): part "
          + "of the log is missing")
    }
    guard held >= first else {
      return report.wrong(
        "index",
        "the store ends at entry \(held.rawValue), the log begins behind \(first.rawValue): the "
          + "store is too old for this log")
    }
    let term = log.term(at: held)
    guard term == .zero || found.consistentTerm == .zero || term == found.consistentTerm else {
      return report.wrong(
        "index",
        "the store holds entry \(held.rawValue) of term \(found.consistentTerm.rawValue), in the "
          + "log it is of term \(term.rawValue): they are of different histories")
    }
    let more = log.lastIndex - held
    report.fine(
      "index",
      "the store holds entry \(held.rawValue); "
        + (more == 0 ? "the log ends there" : "the log has \(more) after it"))
  }
}
