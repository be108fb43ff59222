internal import Basics
internal import CLMDB
internal import Glibc
public import MVCC
internal import Synchronization

/// A new file beside a backend's, which takes over its rows step by step and then its place.
///
/// The backend commits meanwhile. Each step reads from the newest commit, so no snapshot is held
/// and pages that become free are used again. Rows that are appended are found by going on until
/// there are no more; which others have changed behind the step's back the backend notes, and the
/// next step looks at them again.
public final class Defragmentation: Sendable {
  enum Limits {
    /// Noted keys, in bytes: beyond, the commits do the steps' work.
    static let noted = 8 << 20
    static let rowsPerStep = 1000
  }

  /// Keys that changed, to be copied as they are or, where the row is gone, removed.
  private struct Noted {
    var arena: [UInt8] = []
    var keys: [(bucket: Bucket, key: Slice)] = []
    /// The last key of bucket `key`; what is beyond it has yet to come.
    var newest: [UInt8] = []
    /// Why a step that a commit had to make did not succeed.
    var failure: BackendError?
  }

  private struct Work {
    /// Index in `order` of the bucket that is being copied.
    var place = 0
    /// The last key that was copied of it.
    var last: [UInt8] = []
    let reader: LMDBBackend.Reader
  }

  /// The one that grows at its end comes last.
  private static let order = Bucket.allCases.filter { $0 != .key } + [.key]

  private let backend: LMDBBackend
  let target: Environment
  public let path: String
  private let noted: Mutex<Noted>
  private let work: Mutex<Work>

  init(_ backend: LMDBBackend, path: String, mapBytes: Int) throws(BackendError) {
    self.backend = backend
    self.path = path
    unsafe unlink(path)
    unsafe unlink(path + "-lock")
    target = try Environment.open(path: path, syncs: false, mapBytes: mapBytes)
    let reader = try backend.makeReader()
    try reader.renew()
    defer { reader.reset() }
    let newest = try reader.last(.key)
    noted = Mutex(Noted(newest: newest))
    work = Mutex(Work(reader: try backend.makeReader()))
  }

  /// The new file, for `sync_file_range` and the like.
  public var descriptor: Int32 {
    var descriptor: Int32 = -1
    unsafe mdb_env_get_fd(target.env, &descriptor)
    return descriptor
  }

  /// Notes what a commit has changed. The owner's, right after the commit.
  func note(_ batch: WriteBatch) {
    let bytes = noted.withLock { noted in
      guard noted.failure == nil else { return 0 }
      for change in batch.changes {
        let key = batch.arena.rawSpan.extracting(change.key)
        if change.bucket == .key, change.value != nil, key.compare(noted.newest.rawSpan) > 0 {
          noted.newest = key.copied()
          continue
        }
        noted.keys.append(
          (change.bucket, Slice(start: noted.arena.count, count: key.byteCount)))
        noted.arena.append(contentsOf: key)
      }
      return noted.arena.count
    }
    guard bytes > Limits.noted else { return }
    do throws(BackendError) {
      _ = try step(bytesMax: 0)
    } catch {
      noted.withLock { $0.failure = error }
    }
  }

  /// Copies rows of some `bytesMax` bytes; how many bytes it were, or nil when all was copied.
  public func step(bytesMax: Int) throws(BackendError) -> Int? {
    let result = work.withLock { work in
      do throws(BackendError) {
        return Result<Int?, BackendError>.success(try step(&work, bytesMax))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  private func step(_ work: inout Work, _ bytesMax: Int) throws(BackendError) -> Int? {
    var changed = Noted()
    noted.withLock {
      swap(&changed.arena, &$0.arena)
      swap(&changed.keys, &$0.keys)
      changed.failure = $0.failure
    }
    if let failure = changed.failure { throw failure }
    try work.reader.renew()
    defer { work.reader.reset() }
    var batch = WriteBatch()
    for (bucket, slice) in changed.keys {
      let key = changed.arena.rawSpan.extracting(slice)
      guard isCopied(bucket, key, work) else { continue }
      var value: [UInt8] = []
      if try work.reader.get(bucket, key, into: &value) {
        batch.put(bucket, key, value.rawSpan)
      } else {
        batch.remove(bucket, key)
      }
    }
    var isOver = false
    if bytesMax > 0 { isOver = try copyRows(&work, bytesMax, &batch) }
    if !batch.isEmpty { try backend.write(batch, to: target) }
    return isOver ? nil : batch.arena.count
  }

  private func isCopied(_ bucket: Bucket, _ key: RawSpan, _ work: borrowing Work) -> Bool {
    let place = Self.order.firstIndex(of: bucket) ?? 0
    return place < work.place || (place == work.place && key.compare(work.last.rawSpan) <= 0)
  }

  /// True when there are no more.
  private func copyRows(
    _ work: inout Work, _ bytesMax: Int, _ batch: inout WriteBatch
  ) throws(BackendError) -> Bool {
    var rows = 0
    // What changed behind comes on top: there is always room for some rows.
    let bytesMax = batch.arena.count + bytesMax
    while rows < Limits.rowsPerStep, batch.arena.count < bytesMax {
      let bucket = Self.order[work.place]
      let from = work.last
      var last = from
      try work.reader.scan(bucket, from: from.rawSpan, to: RawSpan()) { key, value in
        if !from.isEmpty, key.compare(from.rawSpan) == 0 { return true }
        guard rows < Limits.rowsPerStep, batch.arena.count < bytesMax else { return false }
        batch.put(bucket, key, value)
        last = key.copied()
        rows += 1
        return true
      }
      work.last = last
      guard rows < Limits.rowsPerStep, batch.arena.count < bytesMax else { break }
      // The end of the bucket. There may come more of the last one.
      if work.place == Self.order.count - 1 { return true }
      work.place += 1
      work.last = []
    }
    return false
  }

  /// Makes durable what was copied so far, so that little is left to `end`.
  public func sync() throws(BackendError) { try check(unsafe mdb_env_sync(target.env, 1), path) }

  /// Copies the rest. Nobody commits meanwhile.
  func end(syncs: Bool) throws(BackendError) {
    while try step(bytesMax: 1 << 20) != nil {}
    try sync()
    if syncs { try check(unsafe mdb_env_set_flags(target.env, UInt32(MDB_NOSYNC), 0), path) }
  }

  /// Lets go of the file that was read from.
  func letGo() { work.withLock { $0.reader.reset() } }

  func remove() {
    unsafe unlink(path)
    unsafe unlink(path + "-lock")
  }
}

extension LMDBBackend {
  /// Begins to copy all rows to a new file. Other threads call `step` until there are no more;
  /// then `finish` puts the new file in this one's place, or `abandon` forgets it. The owner's.
  public func beginDefragmentation() throws(BackendError) -> Defragmentation {
    precondition(defragmentation.withLock { $0 == nil }, "one at a time")
    let copy = try Defragmentation(self, path: nextCopyPath(), mapBytes: mapBytes)
    defragmentation.withLock { $0 = copy }
    return copy
  }

  /// Copies what has come in since, and uses the new file. Readers go on in the old one until they
  /// renew; what is returned keeps that from being taken apart on a reader's thread. The owner's.
  ///
  /// Once the new file has the name, commits go there whatever follows. That the name is not
  /// durable ends them: after a power loss it might lead to the old file, which lacks them.
  public func finish(_ copy: Defragmentation) throws(BackendError) -> OldFile {
    let directory: Int32
    do throws(BackendError) {
      try copy.end(syncs: syncs)
      directory = try openFolder()
      guard unsafe rename(copy.path, path) == 0 else {
        let error = failure(path)
        close(directory)
        throw error
      }
    } catch {
      abandon(copy)
      throw error
    }
    defer { close(directory) }
    defragmentation.withLock { $0 = nil }
    let old = use(copy.target)
    copy.letGo()
    guard fsync(directory) == 0 else {
      let error = failure(folder)
      end(with: error)
      throw error
    }
    return OldFile(old)
  }

  /// Everything stays as it is. The owner's, when nobody is in `step` any more.
  public func abandon(_ copy: Defragmentation) {
    defragmentation.withLock { $0 = nil }
    copy.remove()
  }

  /// Gives free space back to the system, at once. The owner makes no commit meanwhile.
  public func defragment() throws(BackendError) { _ = try finish(beginDefragmentation()) }

  /// A file that was replaced, open for those who still read in it.
  public struct OldFile: ~Copyable {
    private var environment: Environment
    init(_ environment: Environment) { self.environment = environment }
    /// Whether nobody reads in it any more.
    public mutating func isUnused() -> Bool { isKnownUniquelyReferenced(&environment) }
  }
}
