internal import CLMDB
internal import MVCC

/// One LMDB file, open: its map, a handle for each bucket. Closed when the last holder lets go.
///
/// Caveats of LMDB that this type keeps: a write transaction stays on one thread; the map is
/// opened at its full size once, as growing it beside readers is not safe; a reader that is held
/// keeps pages from being used again; no two environments of one file in one process.
@safe final class Environment: @unchecked Sendable {
  // Shared safely: LMDB's environment may be used from any thread; handles never change.
  let env: OpaquePointer
  let handles: [MDB_dbi]
  let path: String

  /// Address space set aside, and the limit of a file; nothing is used of it before it is written.
  static let mapBytes = 1 << 40
  static let readersMax: UInt32 = 512

  private init(env: OpaquePointer, handles: [MDB_dbi], path: String) {
    unsafe self.env = env
    self.handles = handles
    self.path = path
  }

  deinit { unsafe mdb_env_close(env) }

  static func open(
    path: String, syncs: Bool, mapBytes: Int
  ) throws(BackendError) -> Environment {
    // Read-ahead only hurts: rows are read at random, or already lie in the page cache.
    try open(path, mapBytes, MDB_NORDAHEAD | (syncs ? 0 : MDB_NOSYNC))
  }

  /// Neither writes nor locks: nobody else has the file.
  static func openForReading(path: String) throws(BackendError) -> Environment {
    try open(path, mapBytes, MDB_RDONLY | MDB_NOLOCK)
  }

  private static func open(
    _ path: String, _ mapBytes: Int, _ flags: Int32
  ) throws(BackendError) -> Environment {
    var created: OpaquePointer?
    try check(unsafe mdb_env_create(&created), path)
    guard let env = unsafe created else { throw .failed("\(path): no memory") }
    do {
      try check(unsafe mdb_env_set_mapsize(env, mapBytes), path)
      try check(unsafe mdb_env_set_maxreaders(env, readersMax), path)
      try check(unsafe mdb_env_set_maxdbs(env, UInt32(Bucket.allCases.count)), path)
      let common = MDB_NOSUBDIR | MDB_NOTLS
      try check(unsafe mdb_env_open(env, path, UInt32(common | flags), 0o600), path)
      let handles = unsafe try openBuckets(unsafe env, path, isReadOnly: flags & MDB_RDONLY != 0)
      return unsafe Environment(env: env, handles: handles, path: path)
    } catch {
      unsafe mdb_env_close(env)
      throw error
    }
  }

  private static func openBuckets(
    _ env: OpaquePointer, _ path: String, isReadOnly: Bool
  ) throws(BackendError) -> [MDB_dbi] {
    var handles: [MDB_dbi] = []
    var txn: OpaquePointer?
    try check(
      unsafe mdb_txn_begin(env, nil, isReadOnly ? UInt32(MDB_RDONLY) : 0, &txn), path)
    for bucket in Bucket.allCases {
      var handle: MDB_dbi = 0
      let name = String(describing: bucket.name)
      let code = unsafe mdb_dbi_open(txn, name, isReadOnly ? 0 : UInt32(MDB_CREATE), &handle)
      if code != 0 {
        unsafe mdb_txn_abort(txn)
        if code == MDB_NOTFOUND { throw .corrupt("\(path): there is no bucket \(name)") }
        try check(code, path)
      }
      handles.append(handle)
    }
    try check(unsafe mdb_txn_commit(txn), path)
    return handles
  }

  func handle(_ bucket: Bucket) -> MDB_dbi { handles[Int(bucket.rawValue)] }

  func sizes() -> (total: Int, inUse: Int) {
    var info = unsafe MDB_envinfo()
    var txn: OpaquePointer?
    guard unsafe mdb_env_info(env, &info) == 0,
      unsafe mdb_txn_begin(env, nil, UInt32(MDB_RDONLY), &txn) == 0
    else { return (0, 0) }
    defer { unsafe mdb_txn_abort(txn) }
    var stat = MDB_stat()
    unsafe mdb_env_stat(env, &stat)
    let pageBytes = Int(stat.ms_psize)
    var pages = 2
    for handle in handles + [0, 1] {
      guard unsafe mdb_stat(txn, handle, &stat) == 0 else { continue }
      pages += Int(stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages)
    }
    let total = Int(unsafe info.me_last_pgno + 1) * pageBytes
    return (total, min(total, pages * pageBytes))
  }
}

/// Throws what LMDB's code `code` means for the file at `path`.
func check(_ code: Int32, _ path: String) throws(BackendError) {
  guard code != 0 else { return }
  let text = unsafe "\(path): \(String(cString: mdb_strerror(code)))"
  switch code {
  case MDB_MAP_FULL: throw .full("\(path): the store has grown to its limit")
  case 28: throw .full(text)
  case MDB_CORRUPTED, MDB_PAGE_NOTFOUND, MDB_INVALID, MDB_VERSION_MISMATCH: throw .corrupt(text)
  default: throw .failed(text)
  }
}
