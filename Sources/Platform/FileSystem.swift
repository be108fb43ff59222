internal import CLinux
internal import Basics
internal import Glibc

/// Files by descriptor, with every failure as an `Errno`.
public enum FileSystem {
  public static func list(_ directory: String) throws(Errno) -> [String] {
    guard let handle = unsafe opendir(directory) else { throw Errno(errno) }
    defer { unsafe closedir(handle) }
    var names: [String] = []
    // The one way to tell a failure from the end: what is missing from a list may be the newest.
    errno = 0
    while let entry = unsafe readdir(handle) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
        unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
      errno = 0
    }
    guard errno == 0 else { throw Errno(errno) }
    return names.sorted()
  }

  /// Makes a directory for this user alone; one that is there is fine.
  public static func makeDirectory(_ path: String) throws(Errno) {
    guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else { throw Errno(errno) }
  }

  public static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

  public static func open(_ path: String, creates: Bool) throws(Errno) -> Int32 {
    let flags = O_RDWR | O_CLOEXEC | (creates ? O_CREAT | O_TRUNC : 0)
    let fd = unsafe Glibc.open(path, flags, 0o600)
    guard fd >= 0 else { throw Errno(errno) }
    return fd
  }

  /// Whether there is a file of bytes, and no directory or device.
  public static func isFile(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
  }

  /// Opens a file that is there, and waits for none that is a pipe.
  public static func openForReading(_ path: String) throws(Errno) -> Int32 {
    let fd = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard fd >= 0 else { throw Errno(errno) }
    return fd
  }

  public static func close(_ fd: Int32) { _ = Glibc.close(fd) }

  public static func size(_ fd: Int32) throws(Errno) -> Int {
    let end = lseek(fd, 0, Int32(SEEK_END))
    guard end >= 0 else { throw Errno(errno) }
    return Int(end)
  }

  /// Reads up to `count` bytes; fewer only at the end of the file.
  public static func read(_ fd: Int32, at offset: Int, count: Int) throws(Errno) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var done = 0
    while done < count {
      let got = unsafe bytes.withUnsafeMutableBytes {
        unsafe pread(fd, $0.baseAddress! + done, count - done, off_t(offset + done))
      }
      if got == 0 { break }
      if got < 0 {
        if errno == EINTR { continue }
        throw Errno(errno)
      }
      done += got
    }
    bytes.removeLast(count - done)
    return bytes
  }

  public static func write(_ fd: Int32, at offset: Int, _ bytes: RawSpan) throws(Errno) {
    var done = 0
    while done < bytes.byteCount {
      let put = unsafe bytes.withUnsafeBytes {
        unsafe pwrite(fd, $0.baseAddress! + done, $0.count - done, off_t(offset + done))
      }
      if put < 0 {
        if errno == EINTR { continue }
        throw Errno(errno)
      }
      done += put
    }
  }

  public static func truncate(_ fd: Int32, to count: Int) throws(Errno) {
    guard ftruncate(fd, off_t(count)) == 0 else { throw Errno(errno) }
  }

  public static func sync(_ fd: Int32) throws(Errno) {
    guard fdatasync(fd) == 0 else { throw Errno(errno) }
  }

  public static func rename(_ from: String, to: String) throws(Errno) {
    guard unsafe Glibc.rename(from, to) == 0 else { throw Errno(errno) }
  }

  public static func remove(_ path: String) throws(Errno) {
    guard unsafe Glibc.unlink(path) == 0 else { throw Errno(errno) }
  }

  public static func syncDirectory(_ path: String) throws(Errno) {
    let fd = unsafe Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard fd >= 0 else { throw Errno(errno) }
    defer { _ = Glibc.close(fd) }
    guard fsync(fd) == 0 else { throw Errno(errno) }
  }

  /// Takes the lock of an open file for this process until it ends; false: another has it.
  public static func lock(_ fd: Int32) throws(Errno) -> Bool {
    if flock(fd, LOCK_EX | LOCK_NB) == 0 { return true }
    guard errno == EWOULDBLOCK else { throw Errno(errno) }
    return false
  }
}

extension Errno {
  public static let noSpace = Errno(ENOSPC)
  public static let missing = Errno(ENOENT)
  public static let unsupported = Errno(ENOTSUP)
}

/// Standard output and error, and the end.
public enum Console {
  public static func write(_ text: String, toError: Bool = false) {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let put = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(toError ? 2 : 1, $0.baseAddress! + done, $0.count - done)
      }
      if put <= 0 { return }
      done += put
    }
  }

  public static func exit(_ status: Int32) -> Never { Glibc.exit(status) }

  /// `NAME=value` pairs.
  public static func environment() -> [(name: String, value: String)] {
    var found: [(String, String)] = []
    var at = unsafe environ
    while let entry = unsafe at.pointee {
      let text = unsafe String(cString: entry)
      if let split = text.firstIndex(of: "=") {
        found.append((String(text[..<split]), String(text[text.index(after: split)...])))
      }
      unsafe at += 1
    }
    return found.map { (name: $0.0, value: $0.1) }
  }
}
