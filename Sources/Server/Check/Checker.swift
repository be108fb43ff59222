internal import Basics
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import WAL

/// One run over one data directory.
struct Checker {
  let root: String
  let repairs: Bool
  /// Faults found and not repaired.
  private(set) var faults = 0
  var progress = ProgressLine()
  /// What the log gave; nil when it cannot be read.
  var log: LogSurvey?
  /// The newest snapshot that a start would use.
  var snapshot: Snapshot?

  init(root: String, repairs: Bool) {
    self.root = root
    self.repairs = repairs
  }

  var member: String { root + "/member" }
  var wal: String { member + "/wal" }
  var snap: String { member + "/snap" }
  var store: String { snap + "/store.lmdb" }

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

  mutating func run() {
    guard let lock = begin() else { return end() }
    defer { if lock >= 0 { FileSystem.close(lock) } }
    checkLeftovers()
    checkLog()
    checkSnapshots()
    checkStore()
    end()
  }

  private mutating func end() {
    progress.clear()
    Console.write(
      faults == 0 ? "nothing is wrong\n" : "\(faults) fault\(faults == 1 ? "" : "s") found\n")
  }

  /// Sees that this is a data directory that nobody uses; the lock's descriptor, -1 when there is
  /// none, nil when the check cannot go on.
  private mutating func begin() -> Int32? {
    guard FileSystem.exists(member) else {
      wrong("directory", "\(root) is not a data directory: it has no 'member' in it")
      return nil
    }
    let lockPath = member + "/martlet.lock"
    let format = member + "/martlet.format"
    do throws(Errno) {
      if FileSystem.exists(format) {
        let fd = try FileSystem.openForReading(format)
        defer { FileSystem.close(fd) }
        let text = String(decoding: try FileSystem.read(fd, at: 0, count: 256), as: UTF8.self)
        guard text == DataDirectory.format else {
          wrong("directory", "\(format) names a format that this version does not read")
          return nil
        }
      } else if FileSystem.exists(snap + "/db") {
        wrong("directory", "\(root) is etcd's, not Martlet's: \(snap)/db is a bbolt file")
        return nil
      } else {
        wrong("directory", "\(format) is missing")
      }
      guard FileSystem.exists(lockPath) else { return -1 }
      let lock = try FileSystem.openForReading(lockPath)
      guard try FileSystem.lock(lock) else {
        FileSystem.close(lock)
        wrong("directory", "\(root) is in use by another process; stop it first")
        return nil
      }
      return lock
    } catch {
      wrong("directory", "\(root) cannot be read: \(error)")
      return nil
    }
  }

  // MARK: Files that something left

  private mutating func checkLeftovers() {
    for directory in [wal, snap] {
      guard let names = try? FileSystem.list(directory) else { continue }
      for name in names {
        let isOld = name.hasSuffix(".broken")
        guard isOld || name.hasSuffix(".tmp") || name.hasPrefix("store.lmdb.defrag") else {
          continue
        }
        let path = directory + "/" + name
        let what = isOld ? "was set aside as broken" : "was left by an interrupted write"
        guard repairs else {
          note("leftover", "\(path) \(what)")
          continue
        }
        do throws(Errno) {
          try FileSystem.remove(path)
          repaired("leftover", "\(path) \(what): removed")
        } catch {
          wrong("leftover", "\(path) cannot be removed: \(error)")
        }
      }
    }
  }

  // MARK: The log

  private mutating func checkLog() {
    guard FileSystem.exists(wal) else {
      if FileSystem.exists(store) {
        wrong("log", "\(wal) is missing, and there is a store")
      } else {
        note("log", "\(wal) is not there yet: no server has written here")
      }
      return
    }
    progress.show("reading the log")
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
      fine(
        "log",
        "\(wal): files: \(survey.files.count), \(range), committed \(state.commit.rawValue), "
          + "term \(state.term.rawValue)")
      if let torn = survey.torn { cutTail(torn) }
    } catch {
      wrong("log", error.text)
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
    guard repairs else { return wrong("log", "\(what) [--repair cuts it off]") }
    do throws(WALError) {
      var recovered = Recovered()
      let start =
        snapshot.map { SnapshotMarker(index: $0.metadata.index, term: $0.metadata.term) } ?? .none
      _ = try Log.open(OSDisk(syncs: true), directory: wal, recovered: &recovered) { _, _ in start }
      repaired("log", recovered.repair ?? what)
    } catch {
      wrong("log", "\(what) and cannot be cut off: \(error.text)")
    }
  }

  // MARK: Snapshot files

  private mutating func checkSnapshots() {
    let files = SnapshotStore(ReadingDisk(), directory: snap)
    let names: [String]
    do throws(DiskError) { names = try files.names() } catch {
      return wrong("snapshots", error.text)
    }
    var whole = 0
    for name in names {
      let path = snap + "/" + name
      do throws(DiskError) {
        guard let found = try files.load(name) else {
          wrong("snapshots", "\(path): its checksum, or its name, does not match what is in it")
          continue
        }
        let tree: V2Tree?
        do { tree = try V2Tree(snapshot: found.data) } catch { tree = nil }
        guard let tree, (try? Cluster(tree: tree)) != nil else {
          wrong("snapshots", "\(path): the members in it cannot be read")
          continue
        }
        whole += 1
        let marker = SnapshotMarker(index: found.metadata.index, term: found.metadata.term)
        if let log, !log.recovered.markers.contains(marker) {
          note("snapshots", "\(path): the log does not confirm it; a start passes it over")
        }
      } catch {
        wrong("snapshots", error.text)
      }
    }
    let start = snapshot.map { ", a start uses the one at entry \($0.metadata.index.rawValue)" }
    fine("snapshots", "\(snap): \(whole) of \(names.count) whole\(start ?? "")")
  }
}
