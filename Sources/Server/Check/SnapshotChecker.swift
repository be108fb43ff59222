internal import Basics
internal import Bolt
internal import MVCC
internal import Platform

/// One run over one snapshot file, or over the `db` of a stopped etcd.
struct SnapshotChecker {
  let path: String
  var report = CheckReport()

  init(path: String) { self.path = path }

  mutating func run() {
    do throws(BackupError) {
      let file = try SnapshotFile.open(path)
      if file.hasHash {
        checkHash(file)
      } else {
        report.note("checksum", "\(path): none follows the pages: a copy, not a saved snapshot")
      }
      checkContent(
        BoltBackend(path: path, fd: file.fd, contentBytes: file.contentBytes))
      withExtendedLifetime(file) {}
    } catch {
      report.wrong("file", "\(path) cannot be read: \(error.text)")
    }
  }

  private mutating func checkHash(_ file: borrowing SnapshotFile) {
    var line = report.progress
    let all = max(1, file.contentBytes)
    do throws(BackupError) {
      try file.checkHash { line.show("reading: \($0 * 100 / all) %") }
      report.progress = line
      report.fine("checksum", "\(path): SHA-256 of \(file.contentBytes) bytes")
    } catch {
      report.progress = line
      report.wrong("checksum", "\(path): at offset \(file.contentBytes): \(error.text)")
    }
  }

  private mutating func checkContent(_ backend: BoltBackend) {
    var line = report.progress
    var names: [String] = []
    do throws(BoltError) {
      let all = backend.sizes().total
      var file = try backend.open { line.show("checking pages: \(min(100, $0 * 100 / all)) %") }
      let pages = file.bytes / file.pageSize
      try file.scanAll { name in
        names.append(String(decoding: name.copied(), as: UTF8.self))
      } row: { _, _ in
        true
      }
      report.progress = line
      report.fine("pages", "\(path): \(pages) pages of \(file.pageSize) bytes")
    } catch {
      report.progress = line
      return report.wrong("pages", "\(path): \(error.text)")
    }
    let missing = [Bucket.key, .meta].filter { !names.contains("\($0.name)") }
    guard missing.isEmpty else {
      let list = missing.map { "\($0.name)" }.joined(separator: ", ")
      return report.wrong("rows", "\(path): it is not etcd's: it has no bucket \(list)")
    }
    guard let found = report.checkRows(backend, path) else { return }
    do throws(BackendError) {
      try report.checkLeases(backend, found)
    } catch {
      report.wrong("leases", error.text)
    }
  }
}
