internal import API
internal import Auth
internal import Basics
public import Lease
public import MVCC
public import Membership
public import Raft

/// Why a replica cannot be made from what is stored.
public enum ReplicaOpenError: Error, Equatable, Sendable {
  case backend(BackendError)
  /// The data of the raft snapshot is not etcd's v2 tree, or a member in it has no record.
  case snapshot(V2Tree.SnapshotError)
  case member
  /// A row that is not what its bucket holds.
  case row(Bucket)
}

extension Replica {
  /// Makes the replica that `backend` and the newest raft snapshot hold; nil when there is no
  /// snapshot yet. The log's entries after the snapshot are to be applied next: to membership all
  /// of them, to the store those that it has not seen. Reads every row once.
  public static func open(
    backend: B, snapshot: Snapshot?, lessor lessorConfig: LessorConfig, config: ReplicaConfig,
    progress: (Int) -> Void
  ) throws(ReplicaOpenError) -> Replica {
    var leased: [LeasedKey] = []
    let store = try self.store(backend, &leased, progress)
    var reader: B.Reader
    let hashReader: B.Reader
    do throws(BackendError) {
      reader = try backend.makeReader()
      hashReader = try backend.makeReader()
      try reader.renew()
    } catch {
      throw .backend(error)
    }
    var cluster = try self.cluster(snapshot?.data)
    try rows(.cluster, reader) { key, value in
      if key.equals([UInt8]("downgrade").rawSpan) {
        cluster.restoreDowngrade(row: value.copied())
      }
      return true
    }
    var alarms = Alarms()
    try rows(.alarm, reader) { key, _ in (try? alarms.restore(row: key)) != nil }
    let lessor = try self.lessor(lessorConfig, leased, reader)
    let access = try self.access(reader)
    reader.reset()
    return Replica(
      store: store, reader: reader, hashReader: hashReader, lessor: lessor, cluster: cluster,
      alarms: alarms, access: access,
      configuration: snapshot?.metadata.confState ?? ConfState(voters: []),
      applied: (snapshot?.metadata.index ?? .zero, snapshot?.metadata.term ?? .zero),
      config: config)
  }

  private static func store(
    _ backend: B, _ leased: inout [LeasedKey], _ progress: (Int) -> Void
  ) throws(ReplicaOpenError) -> Store<B> {
    do { return try Store.open(backend: backend, leased: &leased, progress: progress) } catch {
      throw .backend(error)
    }
  }

  private static func cluster(_ data: [UInt8]?) throws(ReplicaOpenError) -> Cluster {
    guard let data else { return Cluster() }
    let tree: V2Tree
    do { tree = try V2Tree(snapshot: data) } catch { throw .snapshot(error) }
    do { return try Cluster(tree: tree) } catch { throw .member }
  }

  private static func lessor(
    _ config: LessorConfig, _ leased: [LeasedKey], _ reader: B.Reader
  ) throws(ReplicaOpenError) -> Lessor {
    var records: [(id: LeaseID, ttl: Int64, remaining: Int64)] = []
    try rows(.lease, reader) { _, value in
      let whole = Slice(start: 0, count: value.byteCount)
      guard let numbers = try? Numbers(value, in: whole) else { return false }
      records.append((LeaseID(numbers.signed(1)), numbers.signed(2), numbers.signed(3)))
      return true
    }
    var lessor = Lessor(config: config)
    for record in records {
      lessor.restore(record.id, ttl: record.ttl, remaining: record.remaining)
    }
    for key in leased { lessor.attach(key.key.rawSpan, to: key.lease) }
    return lessor
  }

  private static func access(_ reader: B.Reader) throws(ReplicaOpenError) -> AuthStore {
    var isEnabled = false
    var revision: UInt64 = 0
    try rows(.auth, reader) { key, value in
      let name = key.copied()
      if name == AuthRecords.enabledKey {
        isEnabled = value.byteCount == 1 && value[0] == 1
      } else if name == AuthRecords.revisionKey {
        guard let stored = AuthRecords.revision(value) else { return false }
        revision = stored
      }
      return true
    }
    var users: [AuthUser] = []
    try rows(.authUsers, reader) { _, value in
      guard let user = try? AuthRecords.user(value) else { return false }
      users.append(user)
      return true
    }
    var roles: [AuthRole] = []
    try rows(.authRoles, reader) { _, value in
      guard let role = try? AuthRecords.role(value) else { return false }
      roles.append(role)
      return true
    }
    return AuthStore(isEnabled: isEnabled, revision: revision, users: users, roles: roles)
  }

  /// Hands all rows of a bucket to `body`, which answers whether it can read them.
  private static func rows(
    _ bucket: Bucket, _ reader: B.Reader, _ body: (RawSpan, RawSpan) -> Bool
  ) throws(ReplicaOpenError) {
    var isReadable = true
    do {
      try reader.scan(bucket, from: RawSpan(), to: RawSpan()) { key, value in
        isReadable = body(key, value)
        return isReadable
      }
    } catch {
      throw .backend(error)
    }
    guard isReadable else { throw .row(bucket) }
  }
}
