internal import Basics
internal import CLMDB
internal import Glibc
public import MVCC
internal import Synchronization

/// The store's rows in one LMDB file.
///
/// Every value is followed by four bytes: the CRC-32C of key and value, little-endian. LMDB has no
/// checksums of its own; a row that does not match is `BackendError.corrupt`.
public final class LMDBBackend: Backend {
  public let path: String
  let syncs: Bool
  let mapBytes: Int
  private let current: Mutex<Generation>
  /// The one under way.
  let defragmentation = Mutex<Defragmentation?>(nil)

  private struct Generation: ~Copyable {
    var environment: Environment
    var number = 0
    /// Why nothing is committed any more.
    var failure: BackendError?
  }

  private init(path: String, syncs: Bool, mapBytes: Int, environment: Environment) {
    self.path = path
    self.syncs = syncs
    self.mapBytes = mapBytes
    current = Mutex(Generation(environment: environment))
  }

  /// Opens the file at `path`, or makes it. Its pages are checked first: what is damaged is
  /// refused, with file and offset, and left as it is. What a defragmentation left half done is
  /// removed. With `syncs` false a crash of the machine may take commits, or the file.
  public static func open(path: String, syncs: Bool) throws(BackendError) -> LMDBBackend {
    try open(path: path, syncs: syncs, mapBytes: Environment.mapBytes)
  }

  /// As above, for a file that never grows beyond `mapBytes`: a commit that needs more throws
  /// `BackendError.full` and changes nothing.
  public static func open(
    path: String, syncs: Bool, mapBytes: Int
  ) throws(BackendError) -> LMDBBackend {
    try checkPages(path)
    for number in 0..<copiesMax {
      unsafe unlink(copyPath(path, number))
      unsafe unlink(copyPath(path, number) + "-lock")
    }
    let environment = try Environment.open(path: path, syncs: syncs, mapBytes: mapBytes)
    return LMDBBackend(path: path, syncs: syncs, mapBytes: mapBytes, environment: environment)
  }

  /// Opens the file at `path` for one that only reads, and changes nothing, not even a lock file:
  /// the caller sees to it that nobody writes. Its pages were checked.
  public static func openForReading(path: String) throws(BackendError) -> LMDBBackend {
    LMDBBackend(
      path: path, syncs: false, mapBytes: Environment.mapBytes,
      environment: try Environment.openForReading(path: path))
  }

  private static func checkPages(_ path: String) throws(BackendError) {
    do throws(PageCheckError) {
      _ = try PageCheck.run(path: path)
    } catch {
      switch error {
      case .damaged(let damage): throw .corrupt(damage.text)
      case .unreadable(let text): throw .failed(text)
      }
    }
  }

  private static let copiesMax = 64

  private static func copyPath(_ path: String, _ number: Int) -> String {
    "\(path).defrag\(number % copiesMax)"
  }

  var environment: Environment { current.withLock { $0.environment } }

  public func makeReader() throws(BackendError) -> Reader { Reader(self) }
  public func sizes() -> (total: Int, inUse: Int) { environment.sizes() }

  public func commit(_ batch: WriteBatch) throws(BackendError) {
    if let failure = current.withLock({ $0.failure }) { throw failure }
    try write(batch, to: environment)
    if let copy = defragmentation.withLock({ $0 }) { copy.note(batch) }
  }

  func write(_ batch: WriteBatch, to environment: Environment) throws(BackendError) {
    var txn: OpaquePointer?
    try check(unsafe mdb_txn_begin(environment.env, nil, 0, &txn), path)
    do {
      for change in batch.changes { unsafe try make(change, of: batch, unsafe txn, environment) }
    } catch {
      unsafe mdb_txn_abort(txn)
      throw error
    }
    try check(unsafe mdb_txn_commit(txn), path)
  }

  private func make(
    _ change: WriteBatch.Change, of batch: WriteBatch, _ txn: OpaquePointer?,
    _ environment: Environment
  ) throws(BackendError) {
    let handle = environment.handle(change.bucket)
    let key = batch.arena.rawSpan.extracting(change.key)
    let code: Int32
    if let slice = change.value {
      let payload = batch.arena.rawSpan.extracting(slice)
      let appends = change.bucket == .key ? UInt32(MDB_APPEND) : 0
      let first = unsafe put(txn, handle, key, payload, appends)
      // A row that is not the last: entries of the log that are applied again.
      code = unsafe first == MDB_KEYEXIST ? put(txn, handle, key, payload, 0) : first
    } else {
      let gone = unsafe key.withUnsafeBytes { bytes in
        var name = unsafe value(bytes)
        return unsafe mdb_del(txn, handle, &name, nil)
      }
      code = gone == MDB_NOTFOUND ? 0 : gone
    }
    try check(code, path)
  }

  /// Writes the value and its checksum straight into the page.
  private func put(
    _ txn: OpaquePointer?, _ handle: MDB_dbi, _ key: RawSpan, _ payload: RawSpan, _ flags: UInt32
  ) -> Int32 {
    var room = unsafe MDB_val(mv_size: payload.byteCount + 4, mv_data: nil)
    let code = unsafe key.withUnsafeBytes { bytes in
      var name = unsafe value(bytes)
      return unsafe mdb_put(txn, handle, &name, &room, UInt32(MDB_RESERVE) | flags)
    }
    guard code == 0, let target = unsafe room.mv_data else { return code }
    unsafe payload.withUnsafeBytes { from in
      if let start = from.baseAddress {
        unsafe target.copyMemory(from: start, byteCount: from.count)
      }
    }
    let sum = crc32c(payload, seed: crc32c(key)).littleEndian
    unsafe withUnsafeBytes(of: sum) {
      unsafe (target + payload.byteCount).copyMemory(from: $0.baseAddress!, byteCount: 4)
    }
    return 0
  }

  func nextCopyPath() -> String {
    Self.copyPath(
      path,
      current.withLock { generation in
        generation.number += 1
        return generation.number
      })
  }

  /// Uses `environment` from now on, and gives back what was used before.
  func use(_ environment: Environment) -> Environment {
    current.withLock { generation in
      let old = generation.environment
      generation.environment = environment
      return old
    }
  }

  /// Opens the file at `other` and, when `body` has put it in this one's place, uses it.
  func open(_ other: String, _ body: () throws(BackendError) -> Void) throws(BackendError) {
    let environment = try Environment.open(path: other, syncs: syncs, mapBytes: mapBytes)
    try body()
    current.withLock { $0.environment = environment }
  }

  public var folder: String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
  }

  func failure(_ path: String) -> BackendError {
    .failed("\(path): \(unsafe String(cString: strerror(errno)))")
  }

  func openFolder() throws(BackendError) -> Int32 {
    let fd = unsafe Glibc.open(folder, O_RDONLY | O_CLOEXEC)
    guard fd >= 0 else { throw failure(folder) }
    return fd
  }

  /// Refuses all later commits.
  func end(with error: BackendError) { current.withLock { $0.failure = error } }
}

func value(_ bytes: UnsafeRawBufferPointer) -> MDB_val {
  unsafe MDB_val(
    mv_size: bytes.count, mv_data: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
}
