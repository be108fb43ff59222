internal import Basics
internal import Bolt
internal import Config
internal import MVCC
internal import Platform

/// A data directory that etcd, or its `snapshot restore`, has made.
///
/// The log and the `.snap` files are taken as they are. The rows of the bbolt file `db` are
/// copied into a store of ours, once: under another name first, so that a start that is killed
/// leaves the directory as it was. `db` itself is kept.
struct EtcdDirectory {
  let directory: DataDirectory
  let log: Logger

  /// Imports what is there.
  func takeOver() throws(StartError) {
    let path = try source()
    do throws(BackupError) {
      let file = try SnapshotFile.open(path)
      log.info("importing etcd's data directory", ("db", path), ("bytes", String(file.size)))
      var nextLine = 10
      let progress = Progress("importing \(path)")
      let temporary = directory.store + ".import"
      try StoreImport { done, size in
        let percent = size > 0 ? min(100, done * 100 / size) : 100
        progress.show(percent)
        guard percent >= nextLine else { return }
        log.info("importing etcd's data directory", ("percent", String(percent)))
        nextLine = percent / 10 * 10 + 10
      }.make(temporary, from: file) { _, found in
        log.info("imported etcd's data directory", ("rows", String(found.rows)))
      }
      progress.end()
      do throws(Errno) {
        try? FileSystem.remove(directory.store + "-lock")
        try FileSystem.rename(temporary, to: directory.store)
        try FileSystem.syncDirectory(directory.snap)
      } catch {
        throw BackupError("\(directory.store): \(error)")
      }
    } catch {
      throw StartError(
        "etcd's data directory \(directory.root) cannot be imported: \(error.text); nothing was "
          + "changed [--data-dir]")
    }
    try DataDirectory.markAsOurs(directory.member)
  }

  /// The newest bbolt file. A follower of etcd that ends between receiving a snapshot and taking
  /// it over has a second one, named by the entry it ends with.
  private func source() throws(StartError) -> String {
    let names: [String]
    do throws(Errno) {
      names = try FileSystem.list(directory.snap)
    } catch {
      throw StartError("\(directory.snap): \(error)")
    }
    let newest = names.filter { $0.hasSuffix(".snap") }
      .compactMap { UInt64($0.dropLast(5).suffix(16), radix: 16) }.max()
    let received = names.filter { $0.hasSuffix(".snap.db") }
      .first { UInt64($0.dropLast(8), radix: 16) == newest }
    if let newest, let received, try consistentIndex() ?? 0 < newest {
      return directory.snap + "/" + received
    }
    guard FileSystem.exists(directory.bboltFile) else {
      throw StartError(
        "the data directory \(directory.root) has a log but no \(directory.bboltFile); nothing "
          + "was changed [--data-dir]")
    }
    return directory.bboltFile
  }

  /// What the file `db` holds of the log; nil when it cannot be read.
  private func consistentIndex() throws(StartError) -> UInt64? {
    guard let file = try? SnapshotFile.open(directory.bboltFile),
      var bolt = try? file.bolt(progress: { _ in }), let buckets = try? bolt.buckets(),
      let meta = buckets.first(where: { $0.name == Array("meta".utf8) })
    else { return nil }
    var index: UInt64?
    try? bolt.scan(meta) { key, value in
      if key.equals([UInt8]("consistent_index").rawSpan), value.byteCount == 8 {
        index = value.bigEndian()
      }
      return true
    }
    return index
  }
}
