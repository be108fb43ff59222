internal import CLinux
internal import Glibc

extension FileSystem {
  /// Has the disk begin with what was written to the file, and waits for what it began with at
  /// the last call: so that bulk writes never pile up before a sync of something else.
  public static func writeBack(_ fd: Int32) throws(Errno) {
    let code = martlet_write_back(fd)
    guard code >= 0 else { throw Errno(-code) }
  }

  /// Bytes that may still be written where `path` lies.
  public static func freeBytes(_ path: String) throws(Errno) -> Int {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { throw Errno(errno) }
    return Int(clamping: UInt64(status.f_bavail) * UInt64(status.f_frsize))
  }
}
