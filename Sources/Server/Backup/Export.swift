internal import Basics
internal import Bolt
internal import LMDB
internal import MVCC
internal import Platform

/// Makes a data directory for etcd from that of a stopped member: the log and the `.snap` files
/// are etcd's already, the store becomes a bbolt file.
struct Export {
  var dataDirectory: String
  var walDirectory: String
  var target: String

  func run() throws(BackupError) {
    let source = DataDirectory(root: dataDirectory, wal: walDirectory)
    let store = try StoppedStore(dataDirectory: dataDirectory)
    if FileSystem.exists(target), (try? FileSystem.list(target)) != [] {
      throw BackupError("\"\(target)\" not empty or could not be read")
    }
    let isOwnDirectory = !FileSystem.exists(target)
    let temporary = target + "/member.exporting"
    do {
      try FileSystem.makeDirectories(temporary + "/snap")
      try FileSystem.makeDirectory(temporary + "/wal")
      try copy(from: source.wal, to: temporary + "/wal", suffix: ".wal")
      try copy(from: source.snap, to: temporary + "/snap", suffix: ".snap")
      try writeStore(store.path, temporary + "/snap/db")
      for folder in [temporary + "/wal", temporary + "/snap", temporary] {
        try FileSystem.syncDirectory(folder)
      }
      try FileSystem.rename(temporary, to: target + "/member")
      try FileSystem.syncDirectory(target)
    } catch {
      try? FileSystem.removeAll(isOwnDirectory ? target : temporary)
      switch error {
      case let error as BackupError: throw error
      case let error as BackendError: throw BackupError(error.text)
      default: throw BackupError("\(target): \(error)")
      }
    }
  }

  private func copy(from: String, to: String, suffix: String) throws(Errno) {
    for name in try FileSystem.list(from) where name.hasSuffix(suffix) {
      try FileSystem.copy(from + "/" + name, to: to + "/" + name)
    }
  }

  private func writeStore(_ from: String, _ path: String) throws {
    let backend = try LMDBBackend.open(path: from, syncs: true)
    let reader = try backend.makeReader()
    try reader.renew()
    let progress = Progress("exporting \(dataDirectory)")
    do throws(StoreExportError) {
      let export = try StoreExport(
        planning: reader, pageSize: SnapshotStream.Limits.pageBytes, metaRows: [])
      var at = 0
      var failure: Errno?
      let size = export.layout.bytes
      let file: Int32
      do throws(Errno) {
        file = try FileSystem.open(path, creates: true)
      } catch {
        throw .bolt(BoltError(page: nil, "\(path): \(error)"))
      }
      defer { FileSystem.close(file) }
      do throws(StoreExportError) {
        try export.write(from: reader) { piece in
          do throws(Errno) {
            try FileSystem.write(file, at: at, piece)
            at += piece.byteCount
            progress.show(at * 100 / size)
            return true
          } catch {
            failure = error
            return false
          }
        }
      } catch {
        throw failure.map { .bolt(BoltError(page: nil, "\(path): \($0)")) } ?? error
      }
      do throws(Errno) {
        try FileSystem.sync(file)
      } catch {
        throw .bolt(BoltError(page: nil, "\(path): \(error)"))
      }
      progress.end()
    } catch {
      throw BackupError(error.text)
    }
  }
}
