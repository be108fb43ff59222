internal import Glibc

/// An error number of the system.
public struct Errno: Error, Equatable, Sendable, CustomStringConvertible {
  public var code: Int32
  public init(_ code: Int32) { self.code = code }

  public static let wouldBlock = Errno(EAGAIN)
  public static let addressInUse = Errno(EADDRINUSE)
  public static let tooManyFiles = Errno(EMFILE)
  public static let notAnAddress = Errno(EINVAL)
  public static let noSpace = Errno(ENOSPC)
  public static let missing = Errno(ENOENT)
  /// The file is shorter than it was said to be.
  public static let ended = Errno(EIO)

  /// The system's text for it.
  public var description: String { unsafe String(cString: strerror(code)) }
}

/// The result of a call that answers minus an error number.
func check(_ value: Int32) throws(Errno) -> Int32 {
  guard value >= 0 else {
    // A bad descriptor or pointer is a mistake of ours; going on could hit another's file.
    precondition(value != -EBADF && value != -EFAULT, "system call with a bad argument")
    throw Errno(-value)
  }
  return value
}
