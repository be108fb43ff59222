internal import CLinux
internal import Glibc

/// This process: its arguments, its signals and what it uses.
public enum Process {
  /// The program's name and its arguments. Swift's own list is read from /proc, and empty where
  /// that is not mounted: a server would start with other settings than it was given.
  public static var arguments: [String] {
    (0..<martlet_argument_count()).map { unsafe String(cString: martlet_argument($0)) }
  }

  /// A descriptor that becomes readable at SIGTERM or SIGINT. Called before any thread starts.
  public static func stopSignals() throws(Errno) -> Int32 { try check(martlet_stop_signals()) }

  /// Waits for the next of those signals and returns its number.
  public static func nextSignal(_ fd: Int32) -> Int32 { martlet_read_signal(fd) }

  public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Lets the calling thread sleep.
  public static func pause(milliseconds: UInt32) { usleep(milliseconds * 1000) }

  /// Resident memory in bytes.
  public static func residentBytes() -> Int {
    let fields = text("/proc/self/statm").split(separator: " ")
    return fields.count > 1 ? (Int(fields[1]) ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE))) : 0
  }

  /// Address space in use, in bytes.
  public static func virtualBytes() -> Int {
    let fields = text("/proc/self/statm").split(separator: " ")
    return (fields.first.flatMap { Int($0) } ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  /// User and system time used, in nanoseconds.
  public static func cpuNanoseconds() -> UInt64 {
    var usage = rusage()
    unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
    func nanoseconds(_ time: timeval) -> UInt64 {
      UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_usec) * 1000
    }
    return nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)
  }

  /// How many descriptors are open, and how many may be.
  public static func descriptors() -> (open: Int, max: Int) {
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    var count = 0
    if let folder = unsafe opendir("/proc/self/fd") {
      while unsafe readdir(folder) != nil { count += 1 }
      unsafe closedir(folder)
    }
    return (max(0, count - 3), Int(clamping: limit.rlim_cur))
  }

  static func text(_ path: String) -> String {
    let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { return "" }
    defer { close(fd) }
    var bytes = [UInt8](repeating: 0, count: 4096)
    let count = unsafe read(fd, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }
}
