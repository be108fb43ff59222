internal import Basics
internal import Glibc

/// A place in the data file: a page, and a byte of the file in it.
public struct PagePlace: Equatable, Sendable {
  public var page: UInt64
  public var offset: UInt64
}

/// What is wrong with a page.
public struct PageDamage: Error, Equatable, Sendable {
  public var path: String
  public var place: PagePlace
  public var what: String
  /// Places that `place` does not agree with: the damage may as well be there.
  public var others: [PagePlace] = []
  /// What names the page, from the meta page on: a changed page number shows first in what it
  /// leads to.
  public var via: [PagePlace] = []
  /// The page that two places claim.
  var shared: UInt64?

  /// For a person: file, page and offset.
  public var text: String {
    func list(_ places: [PagePlace], _ lead: String) -> String {
      guard !places.isEmpty else { return "" }
      let texts = places.map { "page \($0.page) at file offset \($0.offset)" }
      return "; \(lead) \(texts.joined(separator: ", "))"
    }
    return "\(path): page \(place.page) at file offset \(place.offset): \(what)"
      + list(others, "see also") + list(via, "reached through")
  }
}

/// Why a data file was not accepted.
public enum PageCheckError: Error, Equatable, Sendable {
  case damaged(PageDamage)
  /// The system would not read it, or it is no file.
  case unreadable(String)
}

/// Reads pages of a file in order where they lie in order, one at a time where not.
@safe struct PageFile: ~Copyable {
  let path: String
  let byteCount: UInt64
  private let fd: Int32
  /// What was read last: `windowCount` bytes from `windowStart` on.
  private let window: UnsafeMutableRawBufferPointer
  private var windowStart: UInt64 = 0
  private var windowCount = 0

  private enum Limits {
    static let windowBytes = 256 << 10
  }

  private init(path: String, fd: Int32, byteCount: UInt64) {
    self.path = path
    self.fd = fd
    self.byteCount = byteCount
    // A page is at most half of it.
    unsafe window = .allocate(
      byteCount: Int(min(UInt64(Limits.windowBytes), byteCount)), alignment: 16)
  }

  deinit {
    close(fd)
    unsafe window.deallocate()
  }

  /// Nil when there is no file.
  static func open(path: String) throws(PageCheckError) -> PageFile? {
    // A pipe is not waited for.
    let fd = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard fd >= 0 else {
      if errno == ENOENT { return nil }
      throw failure(path)
    }
    var status = stat()
    guard unsafe fstat(fd, &status) == 0 else {
      let error = failure(path)
      close(fd)
      throw error
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(fd)
      throw .unreadable("\(path): is not a file")
    }
    return PageFile(path: path, fd: fd, byteCount: UInt64(status.st_size))
  }

  private static func failure(_ path: String) -> PageCheckError {
    .unreadable("\(path): \(unsafe String(cString: strerror(errno)))")
  }

  /// Puts `count` bytes from `offset` on into `bytes`; false when the file ends before. At most
  /// 256 KiB at once.
  mutating func read(
    at offset: UInt64, count: Int, into bytes: inout [UInt8]
  ) throws(PageCheckError) -> Bool {
    guard offset <= byteCount, UInt64(count) <= byteCount - offset else { return false }
    if !holds(offset, count) { try fill(offset, count) }
    guard holds(offset, count) else { return false }
    let start = Int(offset - windowStart)
    bytes.removeAll(keepingCapacity: true)
    unsafe bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: window[start..<start + count]))
    return true
  }

  private func holds(_ offset: UInt64, _ count: Int) -> Bool {
    offset >= windowStart && offset - windowStart <= UInt64(windowCount)
      && count <= windowCount - Int(offset - windowStart)
  }

  /// Reads ahead only when the last read ended shortly before.
  private mutating func fill(_ offset: UInt64, _ count: Int) throws(PageCheckError) {
    let end = windowStart + UInt64(windowCount)
    let isSequential = offset >= windowStart && offset <= end + UInt64(Limits.windowBytes / 4)
    let size = Int(
      min(UInt64(isSequential ? Limits.windowBytes : count), byteCount - offset))
    precondition(unsafe size >= count && size <= window.count)
    windowStart = offset
    windowCount = 0
    while windowCount < size {
      let got = unsafe pread(
        fd, window.baseAddress! + windowCount, size - windowCount,
        off_t(offset) + off_t(windowCount))
      if got < 0, errno == EINTR { continue }
      if got < 0 {
        let reason = unsafe String(cString: strerror(errno))
        throw .unreadable(
          "\(path): cannot read at file offset \(offset + UInt64(windowCount)): \(reason)")
      }
      if got == 0 { return }
      windowCount += got
    }
  }
}

extension RawSpan {
  func u16(_ offset: Int) -> Int {
    Int(UInt16(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self)))
  }

  func u32(_ offset: Int) -> UInt32 {
    UInt32(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  func u64(_ offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
}
