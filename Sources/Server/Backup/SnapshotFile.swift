internal import Basics
internal import Bolt
internal import Platform
internal import TLS

/// Why a command on files ends without success; the text is for a person.
struct BackupError: Error {
  var text: String
  init(_ text: String) { self.text = text }
}

/// A bbolt file on disk: a snapshot, with etcd's checksum behind it or without, or the `db` of a
/// data directory.
struct SnapshotFile: ~Copyable {
  static let hashBytes = 32
  private static let pieceBytes = 1 << 20

  let path: String
  let fd: Int32
  let size: Int

  static func open(_ path: String) throws(BackupError) -> SnapshotFile {
    do throws(Errno) {
      let fd = try FileSystem.openForReading(path)
      return SnapshotFile(path: path, fd: fd, size: try FileSystem.size(fd))
    } catch {
      throw BackupError("stat \(path): \(lowercased(error))")
    }
  }

  private init(path: String, fd: Int32, size: Int) {
    self.path = path
    self.fd = fd
    self.size = size
  }

  deinit { FileSystem.close(fd) }

  /// etcd: `hasChecksum`. Pages are larger than 512 bytes, a checksum is shorter.
  var hasHash: Bool { size % 512 == Self.hashBytes }
  /// Bytes of the file in front of the checksum.
  var contentBytes: Int { hasHash ? size - Self.hashBytes : size }

  /// Opens the file as bbolt's. `progress` is told how many bytes have been read.
  func bolt(progress: @escaping (Int) -> Void) throws(BackupError) -> BoltFile {
    let fd = fd
    var done = 0
    let source = BoltSource(size: contentBytes) { offset, count, bytes throws(BoltError) in
      try Self.read(fd, offset, count, &bytes)
      done += count
      progress(done)
    }
    do throws(BoltError) {
      return try BoltFile.open(source)
    } catch {
      throw BackupError(error.text)
    }
  }

  private static func read(
    _ fd: Int32, _ offset: Int, _ count: Int, _ bytes: inout [UInt8]
  ) throws(BoltError) {
    do throws(Errno) {
      let read = try FileSystem.read(fd, at: offset, count: count)
      guard read.count == count else { throw Errno.ended }
      bytes += read
    } catch {
      throw BoltError(page: nil, "read at \(offset): \(error)")
    }
  }

  /// Throws when the checksum behind the file is not that of its bytes, or is missing.
  /// etcd: `v3Manager.copyAndVerifyDB`, with its texts.
  func checkHash(progress: (Int) -> Void) throws(BackupError) {
    guard hasHash else { throw BackupError("snapshot missing hash but --skip-hash-check=false") }
    var computed: [UInt8] = []
    var recorded: [UInt8] = []
    do throws(Errno) {
      computed = try hash(progress)
      recorded = try FileSystem.read(fd, at: contentBytes, count: Self.hashBytes)
    } catch {
      throw BackupError("read \(path): \(error)")
    }
    guard recorded == computed else {
      throw BackupError("expected sha256 \(Self.list(recorded)), got \(Self.list(computed))")
    }
  }

  private func hash(_ progress: (Int) -> Void) throws(Errno) -> [UInt8] {
    let hash = SHA256Hash()
    var at = 0
    while at < contentBytes {
      let bytes = try FileSystem.read(fd, at: at, count: min(Self.pieceBytes, contentBytes - at))
      guard !bytes.isEmpty else { throw Errno.ended }
      hash.update(bytes.rawSpan)
      at += bytes.count
      progress(at)
    }
    return hash.finish()
  }

  private static func list(_ bytes: [UInt8]) -> String {
    "[\(bytes.map { String($0) }.joined(separator: " "))]"
  }
}

/// The system's text for an error as Go writes it.
func lowercased(_ error: Errno) -> String {
  let text = "\(error)"
  return text.prefix(1).lowercased() + text.dropFirst()
}

/// What a snapshot file holds. etcd: `snapshot.Status`.
struct SnapshotStatus: Equatable {
  var hash: UInt32 = 0
  var revision: Int64 = 0
  var rows = 0
  var bytes = 0

  /// Reads the whole file; refuses one that is damaged.
  static func read(
    _ path: String, progress: (Int, Int) -> Void
  ) throws(BackupError) -> SnapshotStatus {
    let file = try SnapshotFile.open(path)
    let size = file.contentBytes
    if file.hasHash { try file.checkHash { _ in } }
    var done = 0
    var bolt = try file.bolt { done = $0 }
    var status = SnapshotStatus()
    status.bytes = bolt.bytes
    var isKeys = false
    do throws(BoltError) {
      try bolt.scanAll { name in
        status.hash = crc32c(name, seed: status.hash)
        isKeys = name.equals([UInt8]("key").rawSpan)
      } row: { key, value in
        status.hash = crc32c(value, seed: crc32c(key, seed: status.hash))
        status.rows += 1
        if isKeys, key.byteCount >= 8 { status.revision = Int64(bitPattern: key.bigEndian()) }
        if status.rows & 0xffff == 0 { progress(done, size) }
        return true
      }
    } catch {
      throw BackupError(
        "snapshot file integrity check failed. 1 errors found.\n\(error.text)")
    }
    return status
  }
}
