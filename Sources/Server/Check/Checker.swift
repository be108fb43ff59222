internal import Basics
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import WAL

/// One run over one data directory.
struct Checker {
  let directory: DataDirectory
  let repairs: Bool
  var report = CheckReport()
  /// What the log gave; nil when it cannot be read.
  var log: LogSurvey?
  /// Whether etcd wrote the directory, and no server of ours has taken it over.
  private var isEtcds = false
  /// The newest snapshot that a start would use.
  var snapshot: Snapshot?

  init(_ directory: DataDirectory, repairs: Bool) {
    self.directory = directory
    self.repairs = repairs
  }

  var root: String { directory.root }
  var wal: String { directory.wal }
  var snap: String { directory.snap }
  var store: String { directory.store }

  mutating func run() {
    defer { report.end() }
    guard let lock = begin() else { return }
    defer { if lock >= 0 { FileSystem.close(lock) } }
    checkLeftovers()
    checkLog()
    checkSnapshots()
    guard isEtcds else { return checkStore() }
    var db = SnapshotChecker(path: directory.bboltFile)
    db.report = report
    db.run()
    report = db.report
  }

  /// Sees that this is a data directory that nobody uses; the lock's descriptor, -1 when there is
  /// none, nil when the check cannot go on.
  private mutating func begin() -> Int32? {
    guard FileSystem.exists(directory.member) else {
      report.wrong("directory", "\(root) is not a data directory: it has no 'member' in it")
      return nil
    }
    let format = directory.formatFile
    let bboltFile = directory.bboltFile
    do throws(Errno) {
      if FileSystem.exists(format) {
        guard try directory.isReadable() else {
          report.wrong("directory", "\(format) names a format that this version does not read")
          return nil
        }
      } else if FileSystem.exists(bboltFile) {
        isEtcds = true
        report.note("directory", "\(root) is etcd's: a start of Martlet imports \(bboltFile)")
      } else {
        report.wrong("directory", "\(format) is missing")
      }
      let lockPath = isEtcds ? bboltFile : directory.lockFile
      guard FileSystem.exists(lockPath) else { return -1 }
      let lock = try FileSystem.openForReading(lockPath)
      // etcd locks its own file.
      guard try isEtcds ? FileSystem.lockShared(lock) : FileSystem.lock(lock) else {
        FileSystem.close(lock)
        report.wrong("directory", "\(root) is in use by another process; stop it first")
        return nil
      }
      return lock
    } catch {
      report.wrong("directory", "\(root) cannot be read: \(error)")
      return nil
    }
  }

  // MARK: Files that something left

  private mutating func checkLeftovers() {
    for directory in [wal, snap] {
      guard let names = try? FileSystem.list(directory) else { continue }
      for name in names {
        let isOld = name.hasSuffix(".broken")
        let isUnfinished =
          name.hasSuffix(".tmp") || name.hasPrefix("store.lmdb.defrag")
          || name.hasPrefix("store.lmdb.import")
        guard isOld || isUnfinished else { continue }
        let path = directory + "/" + name
        let what = isOld ? "was set aside as broken" : "was left by an interrupted write"
        guard repairs else {
          report.note("leftover", "\(path) \(what)")
          continue
        }
        do throws(Errno) {
          try FileSystem.remove(path)
          report.repaired("leftover", "\(path) \(what): removed")
        } catch {
          report.wrong("leftover", "\(path) cannot be removed: \(error)")
        }
      }
    }
  }

  // MARK: The log

  private mutating func checkLog() {
    guard FileSystem.exists(wal) else {
      if FileSystem.exists(store) {
        report.wrong("log", "\(wal) is missing, and there is a store [--wal-dir]")
      } else {
        report.note("log", "\(wal) is not there yet: no server has written here")
      }
      return
    }
    report.progress.show("reading the log")
    let files = SnapshotStore(ReadingDisk(), directory: snap)
    var newest: Snapshot?
    do throws(WALError) {
      let survey = try Log.survey(ReadingDisk(), directory: wal) { markers in
        newest = Self.newest(files, markers)
        return newest.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) }
          ?? .none
      }
      snapshot = newest
      log = survey
      let entries = survey.recovered.entries
      let range =
        entries.isEmpty
        ? "no entries" : "entries \(entries[0].index.rawValue) to \(survey.lastIndex.rawValue)"
      let state = survey.recovered.hardState
      report.fine(
        "log",
        "\(wal): files: \(survey.files.count), \(range), committed \(state.commit.rawValue), "
          + "term \(state.term.rawValue)")
      if let torn = survey.torn { cutTail(torn) }
    } catch {
      report.wrong("log", error.text)
    }
  }

  /// The newest snapshot file that is whole and that the log confirms.
  private static func newest(
    _ files: SnapshotStore<ReadingDisk>, _ markers: [SnapshotMarker]
  ) -> Snapshot? {
    for marker in markers.sorted(by: { ($0.index, $0.term) > ($1.index, $1.term) }) {
      if let found = try? files.load(marker) { return found }
    }
    return nil
  }

  private mutating func cutTail(_ torn: LogSurvey.Place) {
    let what = "\(torn.file): the last record is torn at offset \(torn.offset)"
    guard repairs else { return report.wrong("log", "\(what) [--repair cuts it off]") }
    do throws(WALError) {
      var recovered = Recovered()
      let start =
        snapshot.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) } ?? .none
      _ = try Log.open(OSDisk(syncs: true), directory: wal, recovered: &recovered) { _, _ in start }
      report.repaired("log", recovered.repair ?? what)
    } catch {
      report.wrong("log", "\(what) and cannot be cut off: \(error.text)")
    }
  }

  // MARK: Snapshot files

  private mutating func checkSnapshots() {
    let files = SnapshotStore(ReadingDisk(), directory: snap)
    let names: [String]
    do throws(DiskError) { names = try files.names() } catch {
      return report.wrong("snapshots", error.text)
    }
    var whole = 0
    for name in names {
      let path = snap + "/" + name
      do throws(DiskError) {
        guard let found = try files.load(name) else {
          report.wrong(
            "snapshots", "\(path): its checksum, or its name, does not match what is in it")
          continue
        }
        let tree: V2Tree?
        do { tree = try V2Tree(snapshot: found.data) } catch { tree = nil }
        guard let tree, (try? Cluster(tree: tree)) != nil else {
          report.wrong("snapshots", "\(path): the members in it cannot be read")
          continue
        }
        whole += 1
        let marker = SnapshotMarker(index: found.metadata.index, term: found.metadata.term)
        if let log, !log.recovered.markers.contains(marker) {
          report.note("snapshots", "\(path): the log does not confirm it; a start passes it over")
        }
      } catch {
        report.wrong("snapshots", error.text)
      }
    }
    let start = snapshot.map { ", a start uses the one at entry \($0.metadata.index.rawValue)" }
    report.fine("snapshots", "\(snap): \(whole) of \(names.count) whole\(start ?? "")")
  }
}
