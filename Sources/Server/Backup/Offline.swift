internal import Basics
internal import LMDB
internal import MVCC
internal import Platform

/// The store of a data directory whose server is stopped, held so that none starts meanwhile.
struct StoppedStore {
  let path: String

  init(dataDirectory: String) throws(BackupError) {
    let directory = DataDirectory(root: dataDirectory)
    guard FileSystem.exists(directory.formatFile) else {
      throw BackupError("\(dataDirectory) is no data directory of Martlet")
    }
    let lock = directory.lockFile
    do throws(Errno) {
      let file = try FileSystem.open(lock, creates: !FileSystem.exists(lock))
      guard try FileSystem.lock(file) else { throw Errno.wouldBlock }
    } catch {
      throw BackupError(
        error == .wouldBlock
          ? "the data directory \(dataDirectory) is in use by another process: stop it first"
          : "\(lock): \(error)")
    }
    path = directory.store
    guard FileSystem.exists(path) else { throw BackupError("\(path) is missing") }
  }

  /// Gives its free space back to the system; the sizes before and after.
  func defragment() throws(BackupError) -> (before: Int, after: Int) {
    do throws(BackendError) {
      let backend = try LMDBBackend.open(path: path, syncs: true)
      let before = backend.sizes().total
      try backend.defragment()
      return (before, backend.sizes().total)
    } catch {
      throw BackupError(error.text)
    }
  }
}

/// The hash of the history of keys up to a revision, as `etcdctl endpoint hashkv` tells it.
/// etcd: etcdutl/hashkv_command.go.
struct HistoryHash {
  var hash: UInt32
  var revision: Int64
  var compactRevision: Int64

  /// Of a snapshot, of etcd's `db`, or of the data directory of a stopped server; `revision` 0 is
  /// the newest that it holds.
  static func read(_ path: String, revision: Int64) throws(BackupError) -> HistoryHash {
    if FileSystem.exists(path + "/member") {
      let store = try StoppedStore(dataDirectory: path)
      let backend: LMDBBackend
      do throws(BackendError) {
        backend = try LMDBBackend.open(path: store.path, syncs: true)
      } catch {
        throw BackupError(error.text)
      }
      return try of(backend, revision)
    }
    let file = try SnapshotFile.open(path)
    defer { withExtendedLifetime(file) {} }
    return try of(
      BoltBackend(path: path, fd: file.fd, contentBytes: file.contentBytes), revision)
  }

  private static func of(
    _ backend: some Backend, _ revision: Int64
  ) throws(BackupError) -> HistoryHash {
    do {
      var leased: [LeasedKey] = []
      let store = try Store.open(backend: backend, leased: &leased) { _ in }
      var reader = try backend.makeReader()
      var task = try store.beginHash(revision, reader: &reader)
      while try !store.stepHash(&task, reader: &reader, rowsMax: .max) {}
      return HistoryHash(
        hash: task.hash, revision: task.revision, compactRevision: task.compactRevision)
    } catch let error as BackendError {
      throw BackupError(error.text)
    } catch StoreError.compacted {
      throw BackupError("mvcc: required revision has been compacted")
    } catch StoreError.future {
      throw BackupError("mvcc: required revision is a future revision")
    } catch {
      throw BackupError("\(error)")
    }
  }

  func text(_ format: String) -> String {
    let cells = [String(hash), String(revision), String(compactRevision)]
    switch format {
    case "json":
      return "{\"hash\":\(hash),\"hashRevision\":\(revision),"
        + "\"compactRevision\":\(compactRevision)}\n"
    case "fields":
      return "\"Hash\" : \(hash)\n\"Hash revision\" : \(revision)\n"
        + "\"Compact revision\" : \(compactRevision)\n"
    case "table":
      return StatusText.table(["HASH", "HASH REVISION", "COMPACT REVISION"], cells)
    default: return cells.joined(separator: ", ") + "\n"
    }
  }
}
