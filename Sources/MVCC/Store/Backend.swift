public import Basics

/// The tables of the store, with etcd's names (server/mvcc/buckets).
public enum Bucket: UInt8, CaseIterable, Sendable {
  case key, meta, lease, alarm, cluster, members, membersRemoved, auth, authUsers, authRoles

  public var name: StaticString {
    switch self {
    case .key: "key"
    case .meta: "meta"
    case .lease: "lease"
    case .alarm: "alarm"
    case .cluster: "cluster"
    case .members: "members"
    case .membersRemoved: "members_removed"
    case .auth: "auth"
    case .authUsers: "authUsers"
    case .authRoles: "authRoles"
    }
  }
}

/// Why a backend did not do its work.
public enum BackendError: Error, Equatable, Sendable {
  /// The disk, or the quota of the file, is full; the backend is as it was.
  case full(String)
  /// What is stored is not what was stored; says where.
  case corrupt(String)
  case failed(String)

  /// For a person: which file, and what is wrong.
  public var text: String {
    switch self {
    case .full(let text), .corrupt(let text), .failed(let text): text
    }
  }
}

/// Where the rows of the store live between runs: ordered tables, one writer, snapshot readers.
///
/// `commit` and `defragment` belong to one thread; `makeReader` and `sizes` to any.
public protocol Backend: Sendable {
  associatedtype Reader: BackendReader
  func makeReader() throws(BackendError) -> Reader
  /// Makes the whole batch durable, or changes nothing.
  func commit(_ batch: WriteBatch) throws(BackendError)
  /// Bytes of the file, and of them those in use.
  func sizes() -> (total: Int, inUse: Int)
  /// Gives free space back to the system beside readers; the owner makes no commit meanwhile.
  func defragment() throws(BackendError)
}

/// A snapshot of a backend, moved forward by `renew`. One thread's.
public protocol BackendReader {
  /// Moves to the newest commit.
  mutating func renew() throws(BackendError)
  /// Lets the snapshot go, so that its pages can be used again; `renew` comes before the next read.
  mutating func reset()
  /// Appends the value of `key`; false when there is none.
  func get(_ bucket: Bucket, _ key: RawSpan, into bytes: inout [UInt8]) throws(BackendError)
    -> Bool
  /// Calls `body` with the rows of [from, to), ascending, until it returns false; an empty `to`
  /// has no end.
  func scan(
    _ bucket: Bucket, from: RawSpan, to: RawSpan, _ body: (RawSpan, RawSpan) -> Bool
  ) throws(BackendError)
}

/// Changes that a backend makes together.
public struct WriteBatch: Sendable {
  /// One change; without a value the row goes.
  public struct Change: Sendable {
    public var bucket: Bucket
    public var key: Slice
    public var value: Slice?
  }

  /// The bytes that the slices of `changes` name.
  public private(set) var arena: [UInt8] = []
  /// In the order in which they are made. Rows of bucket `key` come in ascending order.
  public private(set) var changes: [Change] = []

  public init() {}

  public var isEmpty: Bool { changes.isEmpty }

  /// Adds or replaces a row; copies both.
  public mutating func put(_ bucket: Bucket, _ key: RawSpan, _ value: RawSpan) {
    let keySlice = add(key)
    changes.append(Change(bucket: bucket, key: keySlice, value: add(value)))
  }

  /// Removes a row, if it is there.
  public mutating func remove(_ bucket: Bucket, _ key: RawSpan) {
    changes.append(Change(bucket: bucket, key: add(key), value: nil))
  }

  private mutating func add(_ bytes: RawSpan) -> Slice {
    let slice = Slice(start: arena.count, count: bytes.byteCount)
    arena.append(contentsOf: bytes)
    return slice
  }
}
