internal import Basics
internal import Bolt
internal import LMDB
internal import MVCC
internal import Platform

/// Makes a store from the rows of a bbolt file.
struct StoreImport {
  /// Bytes of rows in one transaction of the new store.
  private static let batchBytes = 8 << 20

  private static let progressBytes = 1 << 20

  /// What was found on the way.
  struct Found {
    /// The newest revision's key.
    var newest: [UInt8] = []
    var rows = 0
  }

  /// Buckets whose rows are left out.
  var omitted: [Bucket] = []
  /// Told now and then how much of how much has been read.
  var progress: (Int, Int) -> Void

  /// Makes the file `path` from `source`: whole and durable when this returns, and otherwise not
  /// there. Every page is checked. `amend` adds to the last transaction.
  func make(
    _ path: String, from source: borrowing SnapshotFile,
    amend: (inout WriteBatch, Found) throws(BackupError) -> Void
  ) throws(BackupError) {
    Self.remove(path)
    do throws(BackupError) {
      try fill(path, source, amend)
    } catch {
      Self.remove(path)
      throw error
    }
    try? FileSystem.remove(path + "-lock")
  }

  private static func remove(_ path: String) {
    try? FileSystem.remove(path)
    try? FileSystem.remove(path + "-lock")
  }

  private func fill(
    _ path: String, _ source: borrowing SnapshotFile,
    _ amend: (inout WriteBatch, Found) throws(BackupError) -> Void
  ) throws(BackupError) {
    let size = source.contentBytes
    var done = 0
    var told = 0
    var bolt = try source.bolt { done = $0 }
    do {
      let backend = try LMDBBackend.open(path: path, syncs: false)
      var filling = Filling(backend: backend, omitted: omitted)
      try bolt.scanAll { name in
        filling.begin(name)
      } row: { key, value in
        guard filling.add(key, value) else { return false }
        if done - told >= Self.progressBytes {
          told = done
          progress(done, size)
        }
        return filling.bytes < Self.batchBytes || filling.commit()
      }
      if let failure = filling.failure { throw failure }
      try amend(&filling.batch, filling.found)
      try backend.commit(filling.batch)
      try backend.flush()
    } catch let error as BoltError {
      throw BackupError("\(source.path): \(error.text)")
    } catch let error as BackendError {
      throw BackupError(error.text)
    } catch {
      throw error as! BackupError
    }
  }

  /// Rows on their way into the store.
  private struct Filling {
    let backend: LMDBBackend
    let omitted: [Bucket]
    var batch = WriteBatch()
    var found = Found()
    var failure: BackupError?
    private var bucket: Bucket?
    private var name = ""

    init(backend: LMDBBackend, omitted: [Bucket]) {
      self.backend = backend
      self.omitted = omitted
    }

    var bytes: Int { batch.arena.count }

    mutating func begin(_ name: RawSpan) {
      self.name = String(decoding: name.copied(), as: UTF8.self)
      bucket = Bucket.allCases.first { String(describing: $0.name) == self.name }
    }

    mutating func add(_ key: RawSpan, _ value: RawSpan) -> Bool {
      guard let bucket else {
        failure = BackupError("it has rows in bucket \(name), which etcd 3.5 does not have")
        return false
      }
      if bucket == .key { found.newest = key.copied() }
      found.rows += 1
      if !omitted.contains(bucket) { batch.put(bucket, key, value) }
      return isReadable(bucket, key, value)
    }

    /// etcd 3.6 and later say which version's buckets these are.
    private mutating func isReadable(
      _ bucket: Bucket, _ key: RawSpan, _ value: RawSpan
    ) -> Bool {
      guard bucket == .meta, key.equals([UInt8]("storageVersion").rawSpan) else { return true }
      let version = String(decoding: value.copied(), as: UTF8.self)
      guard !version.hasPrefix("3.5.") else { return true }
      failure = BackupError(
        "its data is in the format of etcd \(version), this version reads that of 3.5")
      return false
    }

    mutating func commit() -> Bool {
      do throws(BackendError) {
        try backend.commit(batch)
        batch = WriteBatch()
        return true
      } catch {
        failure = BackupError(error.text)
        return false
      }
    }
  }
}
