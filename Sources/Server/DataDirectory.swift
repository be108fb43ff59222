internal import Basics
internal import Config
internal import Platform

/// Why a server does not start; the text is for a person.
public struct StartError: Error, Sendable {
  public var text: String
  init(_ text: String) { self.text = text }
}

/// The places of a data directory, and the lock that keeps a second process out.
struct DataDirectory {
  let root: String
  let wal: String
  var member: String { root + "/member" }
  var snap: String { member + "/snap" }
  var store: String { snap + "/store.lmdb" }
  /// etcd's bbolt file: a directory that etcd wrote has one and no store of ours.
  var bboltFile: String { snap + "/db" }
  var lockFile: String { member + "/martlet.lock" }
  var formatFile: String { Self.formatFile(member) }
  /// Whether the directory holds what etcd wrote, and no store of ours.
  private(set) var isEtcds = false

  private static func formatFile(_ member: String) -> String { member + "/martlet.format" }

  /// The places alone; nothing is looked at. `wal` empty: where the log is unless told otherwise.
  init(root: String, wal: String = "") {
    self.root = root
    self.wal = wal.isEmpty ? root + "/member/wal" : wal
  }

  /// Makes what is missing and locks it, against other servers and against etcd. Refuses what a
  /// newer version wrote.
  init(_ options: Options) throws(StartError) {
    self.init(root: options.dataDirectory, wal: options.walDirectory)
    try refuseUnfinished()
    for path in [root, member, snap] {
      do throws(Errno) {
        try FileSystem.makeDirectory(path)
      } catch {
        throw StartError("cannot make the data directory \(path): \(error) [--data-dir]")
      }
    }
    try lock()
    try lockOutEtcd()
    try refuseNewer()
  }

  /// What was to become a member is none: a new cluster in its place would look like a loss.
  private func refuseUnfinished() throws(StartError) {
    guard !FileSystem.exists(member) else { return }
    for work in ["restore", "export"] {
      let path = "\(root)/member.\(work == "restore" ? "restoring" : "exporting")"
      guard FileSystem.exists(path) else { continue }
      throw StartError(
        "\(path) is left of \(work == "restore" ? "a restore" : "an export") that did not come "
          + "to its end: remove it and do that again [--data-dir]")
    }
  }

  private func lock() throws(StartError) {
    let path = lockFile
    let isLocked: Bool
    do throws(Errno) {
      let fd =
        FileSystem.exists(path)
        ? try FileSystem.open(path, creates: false)
        : try FileSystem.open(path, creates: true)
      isLocked = try FileSystem.lock(fd)
    } catch {
      throw StartError("cannot lock the data directory: \(path): \(error) [--data-dir]")
    }
    guard isLocked else {
      throw StartError(
        "the data directory \(root) is in use by another process: stop it first [--data-dir]")
    }
  }

  /// etcd locks its bbolt file while it runs. Holding that lock, for as long as this process
  /// lives, keeps the two from writing to one log.
  private func lockOutEtcd() throws(StartError) {
    let isLocked: Bool
    do throws(Errno) {
      guard FileSystem.exists(bboltFile) else { return }
      isLocked = try FileSystem.lockShared(try FileSystem.openForReading(bboltFile))
    } catch {
      throw StartError("\(bboltFile): \(error) [--data-dir]")
    }
    guard isLocked else {
      throw StartError(
        "the data directory \(root) is in use by another process: stop etcd first [--data-dir]")
    }
  }

  private static let format = "martlet data format 1\n"
  /// What a format file is read of, whoever wrote it.
  private static let formatBytesMax = 256

  /// Whether this version reads the directory. Throws when there is no format file.
  func isReadable() throws(Errno) -> Bool {
    let fd = try FileSystem.openForReading(formatFile)
    defer { FileSystem.close(fd) }
    let text = try FileSystem.read(fd, at: 0, count: Self.formatBytesMax)
    return String(decoding: text, as: UTF8.self) == Self.format
  }

  /// Refuses what this version cannot read, and sees whether the directory is etcd's.
  private mutating func refuseNewer() throws(StartError) {
    if FileSystem.exists(formatFile) {
      let isReadable: Bool
      do throws(Errno) {
        isReadable = try self.isReadable()
      } catch {
        throw StartError("\(formatFile): \(error) [--data-dir]")
      }
      guard isReadable else {
        throw StartError(
          "the data directory \(root) was written by a newer Martlet; this version "
            + "reads '\(Self.format.dropLast())' only. Nothing was changed: start the newer one "
            + "[--data-dir]")
      }
    } else if FileSystem.exists(wal) || FileSystem.exists(bboltFile) {
      isEtcds = true
    } else {
      try Self.markAsOurs(member)
    }
  }

  /// Says in the directory `member` that its files have our format.
  static func markAsOurs(_ member: String) throws(StartError) {
    let path = formatFile(member)
    do throws(Errno) {
      let fd = try FileSystem.open(path + ".tmp", creates: true)
      defer { FileSystem.close(fd) }
      try FileSystem.write(fd, at: 0, Array(format.utf8).rawSpan)
      try FileSystem.sync(fd)
      try FileSystem.rename(path + ".tmp", to: path)
      try FileSystem.syncDirectory(member)
    } catch {
      throw StartError("\(path): \(error) [--data-dir]")
    }
  }
}
