internal import CLMDB
public import MVCC

extension LMDBBackend {
  /// Makes everything durable that was committed while `syncs` was off.
  public func flush() throws(BackendError) {
    try check(unsafe mdb_env_sync(environment.env, 1), path)
  }
}
