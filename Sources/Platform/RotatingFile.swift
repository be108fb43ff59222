internal import Basics
internal import Glibc

/// A file that lines are added to and that, when it is full, is put by under another name. Names
/// and what is kept are those of lumberjack v2, which etcd rotates its log with.
public struct RotatingFile: Sendable {
  /// When a file is full, and what is kept of those that were.
  public struct Policy: Equatable, Sendable {
    /// A file never gets larger.
    public var bytesMax: Int
    /// How many that were put by are kept; 0: all.
    public var backupsMax: Int
    /// For how long they are kept, in nanoseconds; 0: for ever.
    public var ageMax: UInt64
    /// Whether their names have the time of this place instead of UTC.
    public var isLocal: Bool
    public var compresses: Bool

    public init(
      bytesMax: Int, backupsMax: Int, ageMax: UInt64, isLocal: Bool, compresses: Bool
    ) {
      self.bytesMax = bytesMax
      self.backupsMax = backupsMax
      self.ageMax = ageMax
      self.isLocal = isLocal
      self.compresses = compresses
    }
  }

  public let path: String
  /// Nil: the file grows for ever.
  public let policy: Policy?
  private var fd: Int32
  private var size = 0

  /// Opens a file to add to it, and makes it when there is none: for all to read as etcd does
  /// without a policy, for this user alone and with the directories above it as lumberjack does.
  public static func open(_ path: String, _ policy: Policy?) throws(Errno) -> RotatingFile {
    if policy != nil, let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try FileSystem.makeDirectories(String(path[..<slash]))
    }
    let fd = try FileSystem.openForAppending(path, mode: policy == nil ? 0o644 : 0o600)
    return RotatingFile(path: path, policy: policy, fd: fd)
  }

  private init(path: String, policy: Policy?, fd: Int32) {
    self.path = path
    self.policy = policy
    self.fd = fd
    if policy != nil { size = (try? FileSystem.size(fd)) ?? 0 }
  }

  /// Closes the descriptor; nothing is added after it.
  public func close() { FileSystem.close(fd) }

  /// Adds one line, whole. True: the file was full, was put by, and a new one has been begun.
  /// `wall`: nanoseconds since 1970.
  public mutating func append(_ line: [UInt8], wall: UInt64) throws(Errno) -> Bool {
    var isFull = false
    if let policy, size > 0, size + line.count > policy.bytesMax {
      try FileSystem.rename(path, to: backup(wall))
      let next = try FileSystem.openForAppending(path, mode: 0o600)
      FileSystem.close(fd)
      fd = next
      size = 0
      isFull = true
    }
    try FileSystem.append(fd, line.rawSpan)
    size += line.count
    return isFull
  }

  // MARK: What was put by

  /// The path without the part from the last dot of its name on, and that part.
  private var stem: (String, String) {
    let name = path.lastIndex(of: "/").map { path[path.index(after: $0)...] } ?? path[...]
    guard let dot = name.lastIndex(of: ".") else { return (path, "") }
    return (String(path[..<dot]), String(path[dot...]))
  }

  private func stamp(_ wall: UInt64) -> String {
    CivilTime(wall, isLocal: policy?.isLocal ?? false).text("-", decimals: 3)
  }

  private func backup(_ wall: UInt64) -> String {
    let (front, end) = stem
    return "\(front)-\(stamp(wall))\(end)"
  }

  /// Files that were put by, newest first: what their names say of the time, and their names.
  private func backups() throws(Errno) -> [(stamp: String, path: String)] {
    let (front, end) = stem
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { path[...$0] } ?? ""
    let prefix = front.dropFirst(folder.count) + "-"
    let width = stamp(0).count
    var found: [(stamp: String, path: String)] = []
    for name in try FileSystem.list(folder.isEmpty ? "." : String(folder)) {
      guard name.hasPrefix(prefix) else { continue }
      let rest = name.dropFirst(prefix.count)
      let stamp = rest.prefix(width)
      guard rest.dropFirst(width) == end || rest.dropFirst(width) == end + Self.packed,
        stamp.count == width, stamp.allSatisfy({ $0.isNumber || "-T.".contains($0) })
      else { continue }
      found.append((String(stamp), String(folder) + name))
    }
    return found.sorted { $0.stamp > $1.stamp }
  }

  /// The end of the name of a file that was compressed.
  private static let packed = ".gz"

  /// Removes what is too old or too much of what was put by, and has `pack` compress the rest from
  /// the first path to the second when that is wanted. Takes as long as the files are large.
  public func tidy(
    wall: UInt64, pack: (_ from: String, _ to: String) throws(Errno) -> Void
  ) throws(Errno) {
    guard let policy else { return }
    var kept: [String] = []
    let oldest = policy.ageMax > 0 && policy.ageMax < wall ? stamp(wall - policy.ageMax) : ""
    for file in try backups() {
      if !kept.contains(file.stamp) { kept.append(file.stamp) }
      if file.stamp < oldest || (policy.backupsMax > 0 && kept.count > policy.backupsMax) {
        try FileSystem.remove(file.path)
      } else if policy.compresses, !file.path.hasSuffix(Self.packed) {
        try pack(file.path, file.path + Self.packed)
        try FileSystem.remove(file.path)
      }
    }
  }
}

extension FileSystem {
  /// Opens a file that every write goes to the end of; a new one gets `mode`.
  static func openForAppending(_ path: String, mode: UInt32) throws(Errno) -> Int32 {
    let fd = unsafe Glibc.open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, mode)
    guard fd >= 0 else { throw Errno(errno) }
    return fd
  }

  /// Writes all of `bytes` where the descriptor stands; waits for as long as that takes.
  public static func append(_ fd: Int32, _ bytes: RawSpan) throws(Errno) {
    var done = 0
    while done < bytes.byteCount {
      let put = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(fd, $0.baseAddress! + done, $0.count - done)
      }
      if put < 0 {
        if errno == EINTR { continue }
        throw Errno(errno)
      }
      done += put
    }
  }
}
