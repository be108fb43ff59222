public import API
public import Auth
public import Basics

extension RangeRequestView {
  /// What the request reads.
  public func keys(_ bytes: RawSpan) -> KeyRange {
    KeyRange(
      key: bytes.extracting(key).copied(), end: bytes.extracting(rangeEnd).copied())
  }
}

/// What requests need permission for. etcd: server/etcdserver/apply_auth.go.
public enum Permissions {
  /// Refuses a transaction when any part of it, of either branch and at every depth, is not
  /// permitted. `leased`: the keys that a lease holds.
  public static func check(
    _ txn: Txn, _ bytes: RawSpan, by who: Principal, _ store: AuthStore,
    leased: (LeaseID) -> [[UInt8]]
  ) throws(AuthError) {
    for compare in txn.compares {
      let range = KeyRange(
        key: bytes.extracting(compare.key).copied(),
        end: bytes.extracting(compare.rangeEnd).copied())
      try store.checkRead(who, range)
    }
    for op in txn.success { try check(op, bytes, by: who, store, leased: leased) }
    for op in txn.failure { try check(op, bytes, by: who, store, leased: leased) }
  }

  private static func check(
    _ op: Txn.Op, _ bytes: RawSpan, by who: Principal, _ store: AuthStore,
    leased: (LeaseID) -> [[UInt8]]
  ) throws(AuthError) {
    switch op {
    case .range(let range): try store.checkRead(who, range.keys(bytes))
    case .put(let put): try check(put, bytes, by: who, store, leased: leased)
    case .deleteRange(let delete): try check(delete, bytes, by: who, store)
    case .txn(let nested): try check(nested, bytes, by: who, store, leased: leased)
    case .empty: break
    }
  }

  /// A put attaches its key to the lease, so that who revokes the lease deletes the key: whoever
  /// may not write the lease's other keys could not revoke it, and may not use it.
  static func check(
    _ put: PutRequestView, _ bytes: RawSpan, by who: Principal, _ store: AuthStore,
    leased: (LeaseID) -> [[UInt8]]
  ) throws(AuthError) {
    let range = KeyRange(key: bytes.extracting(put.key).copied())
    try store.checkWrite(who, range)
    if put.lease != .none { try checkWrites(of: leased(put.lease), by: who, store) }
    if put.prevKV { try store.checkRead(who, range) }
  }

  static func check(
    _ delete: DeleteRangeRequestView, _ bytes: RawSpan, by who: Principal,
    _ store: AuthStore
  ) throws(AuthError) {
    let range = KeyRange(
      key: bytes.extracting(delete.key).copied(), end: bytes.extracting(delete.rangeEnd).copied())
    try store.checkWrite(who, range)
    if delete.prevKV { try store.checkRead(who, range) }
  }

  /// Refuses who may not write all of `keys`, unless it is root.
  static func checkWrites(
    of keys: [[UInt8]], by who: Principal, _ store: AuthStore
  ) throws(AuthError) {
    guard !store.isAdmin(who) else { return }
    for key in keys { try store.checkWrite(who, KeyRange(key: key)) }
  }

  static func checkReads(
    of keys: [[UInt8]], by who: Principal, _ store: AuthStore
  ) throws(AuthError) {
    guard !store.isAdmin(who) else { return }
    for key in keys { try store.checkRead(who, KeyRange(key: key)) }
  }
}
