internal import Basics
internal import Glibc

/// What tells one state of a file from another without reading it.
public struct FileStamp: Equatable, Sendable {
  var device: UInt64
  var file: UInt64
  var size: Int64
  var changed: Int64
}

extension FileSystem {
  /// The whole content of a file that this user may read; fails with EFBIG beyond `bytesMax`.
  public static func contents(_ path: String, bytesMax: Int) throws(Errno) -> [UInt8] {
    let fd = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { throw Errno(errno) }
    defer { _ = Glibc.close(fd) }
    var found: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      let count = unsafe Glibc.read(fd, &piece, piece.count)
      if count == 0 { return found }
      if count < 0 {
        if errno == EINTR { continue }
        throw Errno(errno)
      }
      found += piece[..<count]
      guard found.count <= bytesMax else { throw Errno(EFBIG) }
    }
  }

  /// Writes a new file with `mode`, in place of one that is there.
  public static func create(_ path: String, _ bytes: [UInt8], mode: UInt32) throws(Errno) {
    let fd = unsafe Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard fd >= 0 else { throw Errno(errno) }
    defer { _ = Glibc.close(fd) }
    try write(fd, at: 0, bytes.rawSpan)
    try sync(fd)
  }

  /// The state of the file at `path`, links followed; nil when there is none to be read.
  public static func stamp(_ path: String) -> FileStamp? {
    var found = stat()
    guard unsafe stat(path, &found) == 0 else { return nil }
    return FileStamp(
      device: UInt64(found.st_dev), file: UInt64(found.st_ino), size: Int64(found.st_size),
      changed: Int64(found.st_mtim.tv_sec) * 1_000_000_000 + Int64(found.st_mtim.tv_nsec))
  }
}
