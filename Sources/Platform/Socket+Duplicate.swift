internal import Glibc

extension Socket {
  /// A second descriptor of the same connection, which outlives this one; the caller closes it.
  /// Nil when descriptors have run out.
  public func duplicate() -> Int32? {
    let copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    return copy >= 0 ? copy : nil
  }
}
