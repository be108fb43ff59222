import Basics
import WAL

/// A disk in memory that loses, at a crash, what was not synced, and can be told to fail.
final class FaultyDisk: Disk, @unchecked Sendable {
  // One test's, on one thread.
  struct File {
    var bytes: [UInt8] = []
    var synced: [UInt8] = []
  }

  var files: [String: File] = [:]
  /// Calls that may still succeed before every one fails; nil: no limit.
  var callsLeft: Int?
  private var open: [Int32: String] = [:]
  private var next: Int32 = 3

  private func step(_ what: String) throws(DiskError) {
    guard let left = callsLeft else { return }
    guard left > 0 else { throw DiskError("\(what): no space", isFull: true, isMissing: false) }
    callsLeft = left - 1
  }

  func list(_ directory: String) throws(DiskError) -> [String] {
    files.keys.filter { $0.hasPrefix(directory + "/") }
      .map { String($0.dropFirst(directory.count + 1)) }.sorted()
  }
  func makeDirectory(_ path: String) throws(DiskError) { try step("mkdir") }
  func open(_ path: String, creates: Bool) throws(DiskError) -> Int32 {
    try step("open")
    if creates {
      files[path] = File()
    } else if files[path] == nil {
      throw DiskError("\(path): missing", isFull: false, isMissing: true)
    }
    next += 1
    open[next] = path
    return next
  }
  func close(_ file: Int32) { open[file] = nil }
  func size(_ file: Int32) throws(DiskError) -> Int { files[open[file]!]!.bytes.count }
  func read(_ file: Int32, at offset: Int, count: Int) throws(DiskError) -> [UInt8] {
    let bytes = files[open[file]!]!.bytes
    return Array(bytes[min(offset, bytes.count)..<min(offset + count, bytes.count)])
  }
  func write(_ file: Int32, at offset: Int, _ bytes: RawSpan) throws(DiskError) {
    try step("write")
    var content = files[open[file]!]!.bytes
    let end = offset + bytes.byteCount
    if content.count < end { content += [UInt8](repeating: 0, count: end - content.count) }
    content.replaceSubrange(offset..<end, with: bytes.copied())
    files[open[file]!]!.bytes = content
  }
  func truncate(_ file: Int32, to count: Int) throws(DiskError) {
    try step("truncate")
    files[open[file]!]!.bytes.removeLast(max(0, files[open[file]!]!.bytes.count - count))
  }
  func sync(_ file: Int32) throws(DiskError) {
    try step("sync")
    files[open[file]!]!.synced = files[open[file]!]!.bytes
  }
  func rename(_ from: String, to: String) throws(DiskError) {
    try step("rename")
    for (path, file) in files where path == from || path.hasPrefix(from + "/") {
      files[path] = nil
      files[to + path.dropFirst(from.count)] = file
    }
    for (handle, path) in open where path == from || path.hasPrefix(from + "/") {
      open[handle] = to + path.dropFirst(from.count)
    }
  }
  func remove(_ path: String) throws(DiskError) { files[path] = nil }
  func syncDirectory(_ path: String) throws(DiskError) { try step("sync directory") }

  /// Power goes: of what was not synced, some sectors are there and some are not.
  func crash(_ random: inout Random) {
    callsLeft = nil
    for (path, file) in files {
      var bytes = file.synced
      if file.bytes.count > bytes.count {
        bytes += [UInt8](repeating: 0, count: file.bytes.count - bytes.count)
      }
      var at = 0
      while at < file.bytes.count {
        let end = min(at + 512, file.bytes.count)
        if random.chance(1, in: 2) { bytes.replaceSubrange(at..<end, with: file.bytes[at..<end]) }
        at = end
      }
      files[path] = File(bytes: bytes, synced: bytes)
    }
  }
}
