internal import Basics
internal import Glibc

/// What tools on files need beside the server's own files.
extension FileSystem {
  /// Takes the lock of an open file together with other readers; false: a writer has it.
  public static func lockShared(_ fd: Int32) throws(Errno) -> Bool {
    if flock(fd, LOCK_SH | LOCK_NB) == 0 { return true }
    guard errno == EWOULDBLOCK else { throw Errno(errno) }
    return false
  }

  /// Makes a directory and those above it that are missing.
  public static func makeDirectories(_ path: String) throws(Errno) {
    if exists(path) || path.isEmpty { return }
    if let slash = path.lastIndex(of: "/") { try makeDirectories(String(path[..<slash])) }
    try makeDirectory(path)
  }

  /// Removes a file, or a directory with all that is in it; links are not followed.
  public static func removeAll(_ path: String) throws(Errno) {
    if unsafe unlink(path) == 0 || errno == ENOENT { return }
    guard errno == EISDIR || errno == EPERM else { throw Errno(errno) }
    for name in try list(path) { try removeAll(path + "/" + name) }
    guard unsafe rmdir(path) == 0 else { throw Errno(errno) }
  }

  /// Copies a file's bytes to a new file, which is durable when this returns.
  public static func copy(_ from: String, to: String) throws(Errno) {
    let source = try openForReading(from)
    defer { close(source) }
    let target = try open(to, creates: true)
    defer { close(target) }
    var at = 0
    while true {
      let bytes = try read(source, at: at, count: 1 << 20)
      if bytes.isEmpty { break }
      try write(target, at: at, bytes.rawSpan)
      at += bytes.count
    }
    guard fsync(target) == 0 else { throw Errno(errno) }
  }
}
