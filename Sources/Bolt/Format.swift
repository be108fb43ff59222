internal import Basics

/// Why a bbolt file is refused, or cannot be written.
public struct BoltError: Error, Equatable, Sendable {
  /// The page with the fault; nil when it is no single page's.
  public var page: UInt64?
  public var reason: String

  public init(page: UInt64?, _ reason: String) {
    self.page = page
    self.reason = reason
  }

  /// For a person: the reason, and where.
  public var text: String { page.map { "page \($0): \(reason)" } ?? reason }
}

/// Limits of bbolt files. A file beyond them is refused before memory is spent on it.
public enum BoltLimits {
  /// bbolt: MaxKeySize.
  public static let keyBytesMax = 32_768
  /// A node of a tree with rows. bbolt puts two to four rows of the largest size into one.
  public static let leafBytesMax = 256 << 20
  public static let branchBytesMax = 1 << 20
  public static let depthMax = 48
  public static let bucketsMax = 1024
  public static let fileBytesMax = 1 << 40
  /// Pages that a freelist names are read in pieces of this size.
  static let freelistBytesPerRead = 1 << 20
}

/// Numbers of bbolt's file format. Every integer is little-endian.
///
///     page    id u64 | flags u16 | count u16 | overflow u32 | elements… | keys and values…
///     leaf    flags u32 | position u32 | key bytes u32 | value bytes u32
///     branch  position u32 | key bytes u32 | page u64
///     bucket  root page u64 | sequence u64 | a leaf page, when the root is 0
///
/// A position counts from its own element.
enum Format {
  static let magic: UInt32 = 0xed0c_daed
  static let version: UInt32 = 2
  static let headerBytes = 16
  static let elementBytes = 16
  static let metaBytes = 64
  static let bucketBytes = 16
  static let branchFlag: UInt16 = 0x01
  static let leafFlag: UInt16 = 0x02
  static let metaFlag: UInt16 = 0x04
  static let freelistFlag: UInt16 = 0x10
  /// Of a leaf element whose value is a bucket.
  static let bucketFlag: UInt32 = 0x01
  /// The freelist is not in the file: what no tree reaches is free.
  static let noFreelist = UInt64.max
}

/// FNV-1a with 64 bits.
func fnv64a(_ bytes: RawSpan) -> UInt64 {
  var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  for at in 0..<bytes.byteCount { hash = (hash ^ UInt64(bytes[at])) &* 0x0100_0000_01b3 }
  return hash
}

extension RawSpan {
  func number16(_ offset: Int) -> UInt16 {
    UInt16(self[offset]) | UInt16(self[offset + 1]) << 8
  }

  func number32(_ offset: Int) -> UInt32 {
    precondition(offset >= 0 && offset <= byteCount - 4)
    return UInt32(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  func number64(_ offset: Int) -> UInt64 {
    precondition(offset >= 0 && offset <= byteCount - 8)
    return UInt64(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
  }
}

extension [UInt8] {
  mutating func append(little value: some FixedWidthInteger) {
    unsafe Swift.withUnsafeBytes(of: value.littleEndian) { unsafe append(contentsOf: $0) }
  }
}

/// What one of the two meta pages says.
struct Meta: Equatable {
  var pageSize: Int
  var root: UInt64
  var sequence: UInt64
  var freelist: UInt64
  /// One more than the highest page in use.
  var pageCount: UInt64
  var transaction: UInt64

  /// Reads the page at `bytes`, which is at least `Format.headerBytes + Format.metaBytes` long.
  init(_ bytes: RawSpan, page: UInt64) throws(BoltError) {
    let body = bytes.extracting(Format.headerBytes..<Format.headerBytes + Format.metaBytes)
    guard body.number32(0) == Format.magic else {
      throw BoltError(page: page, "invalid database")
    }
    guard body.number32(4) == Format.version else {
      throw BoltError(page: page, "version mismatch")
    }
    guard body.number64(56) == fnv64a(body.extracting(0..<56)) else {
      throw BoltError(page: page, "checksum error")
    }
    pageSize = Int(body.number32(8))
    root = body.number64(16)
    sequence = body.number64(24)
    freelist = body.number64(32)
    pageCount = body.number64(40)
    transaction = body.number64(48)
    guard pageSize >= 1024, pageSize <= 1 << 20, pageSize & (pageSize - 1) == 0 else {
      throw BoltError(page: page, "its page size of \(pageSize) bytes is impossible")
    }
  }

  init(pageSize: Int, root: UInt64, freelist: UInt64, pageCount: UInt64, transaction: UInt64) {
    self.pageSize = pageSize
    self.root = root
    sequence = 0
    self.freelist = freelist
    self.pageCount = pageCount
    self.transaction = transaction
  }

  /// Appends a whole page.
  func append(page: UInt64, to bytes: inout [UInt8]) {
    let start = bytes.count
    appendHeader(id: page, flags: Format.metaFlag, count: 0, overflow: 0, to: &bytes)
    var body: [UInt8] = []
    body.append(little: Format.magic)
    body.append(little: Format.version)
    body.append(little: UInt32(pageSize))
    body.append(little: UInt32(0))
    for number in [root, sequence, freelist, pageCount, transaction] {
      body.append(little: number)
    }
    body.append(little: fnv64a(body.rawSpan))
    bytes += body
    pad(&bytes, to: start + pageSize)
  }
}

func appendHeader(
  id: UInt64, flags: UInt16, count: Int, overflow: Int, to bytes: inout [UInt8]
) {
  bytes.append(little: id)
  bytes.append(little: flags)
  bytes.append(little: UInt16(count))
  bytes.append(little: UInt32(overflow))
}

func pad(_ bytes: inout [UInt8], to count: Int) {
  precondition(bytes.count <= count)
  bytes += [UInt8](repeating: 0, count: count - bytes.count)
}
