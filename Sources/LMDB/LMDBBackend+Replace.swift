internal import Glibc
public import MVCC

extension LMDBBackend {
  /// Puts the file at `other`, which nobody has open, in the place of this one: all of it, or
  /// nothing. Readers go on in the old file until they renew. The owner makes no commit meanwhile.
  public func replace(with other: String) throws(BackendError) {
    // Opened under its own name, so that the two have each a lock file of their own.
    try open(other) { () throws(BackendError) in
      let directory = try openFolder()
      defer { close(directory) }
      guard unsafe rename(other, path) == 0 else { throw failure(path) }
      guard fsync(directory) == 0 else { throw failure(folder) }
    }
  }

  /// Forgets all that lies at `path` but is no store in use.
  public static func remove(_ path: String) {
    unsafe unlink(path)
    unsafe unlink(path + "-lock")
  }
}
