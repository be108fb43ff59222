internal import Basics
internal import Platform
internal import WAL

/// The log's disk: the system's files.
struct OSDisk: Disk {
  var syncs: Bool

  private func attempt<Result>(
    _ what: String, _ body: () throws(Errno) -> Result
  ) throws(DiskError) -> Result {
    do throws(Errno) {
      return try body()
    } catch {
      throw DiskError(
        "\(what): \(error)", isFull: error == .noSpace, isMissing: error == .missing)
    }
  }

  func list(_ directory: String) throws(DiskError) -> [String] {
    try attempt("list \(directory)") { () throws(Errno) in try FileSystem.list(directory) }
  }
  func makeDirectory(_ path: String) throws(DiskError) {
    try attempt("make \(path)") { () throws(Errno) in try FileSystem.makeDirectory(path) }
  }
  func open(_ path: String, creates: Bool) throws(DiskError) -> Int32 {
    try attempt("open \(path)") { () throws(Errno) in
      try FileSystem.open(path, creates: creates)
    }
  }
  func close(_ file: Int32) { FileSystem.close(file) }
  func size(_ file: Int32) throws(DiskError) -> Int {
    try attempt("size of a log file") { () throws(Errno) in try FileSystem.size(file) }
  }
  func read(_ file: Int32, at offset: Int, count: Int) throws(DiskError) -> [UInt8] {
    try attempt("read a log file") { () throws(Errno) in
      try FileSystem.read(file, at: offset, count: count)
    }
  }
  func write(_ file: Int32, at offset: Int, _ bytes: RawSpan) throws(DiskError) {
    do throws(Errno) {
      try FileSystem.write(file, at: offset, bytes)
    } catch {
      throw DiskError("write to the log: \(error)", isFull: error == .noSpace, isMissing: false)
    }
  }
  func truncate(_ file: Int32, to count: Int) throws(DiskError) {
    try attempt("cut a log file") { () throws(Errno) in
      try FileSystem.truncate(file, to: count)
    }
  }
  func sync(_ file: Int32) throws(DiskError) {
    guard syncs else { return }
    try attempt("sync the log") { () throws(Errno) in try FileSystem.sync(file) }
  }
  func rename(_ from: String, to: String) throws(DiskError) {
    try attempt("rename \(from)") { () throws(Errno) in try FileSystem.rename(from, to: to) }
  }
  func remove(_ path: String) throws(DiskError) {
    try attempt("remove \(path)") { () throws(Errno) in try FileSystem.remove(path) }
  }
  func syncDirectory(_ path: String) throws(DiskError) {
    guard syncs else { return }
    try attempt("sync \(path)") { () throws(Errno) in try FileSystem.syncDirectory(path) }
  }
}
