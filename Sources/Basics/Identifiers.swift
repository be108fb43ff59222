/// A term of Raft: the number of an election.
public struct Term: Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let zero = Term(0)
  public static func < (a: Term, b: Term) -> Bool { a.rawValue < b.rawValue }
}

/// A position in the Raft log; the first entry has 1, and 0 stands before it.
public struct LogIndex: Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let zero = LogIndex(0)
  public static func < (a: LogIndex, b: LogIndex) -> Bool { a.rawValue < b.rawValue }
  public static func + (a: LogIndex, distance: Int) -> LogIndex {
    LogIndex(a.rawValue + UInt64(distance))
  }
  /// How many entries `a` lies behind `b`; negative when it lies before it.
  public static func - (a: LogIndex, b: LogIndex) -> Int {
    Int(Int64(bitPattern: a.rawValue &- b.rawValue))
  }
}

/// A participant of Raft: the member ID as etcd derives it. 0 means none.
public struct NodeID: Hashable, Comparable, Sendable {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public static let none = NodeID(0)
  public static func < (a: NodeID, b: NodeID) -> Bool { a.rawValue < b.rawValue }
}

/// The identity of a cluster, as etcd derives it from its first members.
public struct ClusterID: Hashable, Sendable {
  public var rawValue: UInt64
  public init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// A lease; 0 means none.
public struct LeaseID: Hashable, Comparable, Sendable {
  public var rawValue: Int64
  public init(_ rawValue: Int64) { self.rawValue = rawValue }
  public static let none = LeaseID(0)
  public static func < (a: LeaseID, b: LeaseID) -> Bool { a.rawValue < b.rawValue }
}

/// A change of the store: `main` numbers the transaction, `sub` the change inside it.
/// etcd: mvcc `revision`.
public struct Revision: Hashable, Comparable, Sendable {
  public var main: Int64
  public var sub: Int64
  public init(main: Int64, sub: Int64) {
    self.main = main
    self.sub = sub
  }
  public static let zero = Revision(main: 0, sub: 0)
  public static func < (a: Revision, b: Revision) -> Bool {
    a.main != b.main ? a.main < b.main : a.sub < b.sub
  }
}

/// A stretch of bytes inside a buffer that its holder knows: offset and count, no pointer.
public struct Slice: Hashable, Sendable {
  public var start: UInt32
  public var count: UInt32
  public init(start: Int, count: Int) {
    self.start = UInt32(start)
    self.count = UInt32(count)
  }
  public static let empty = Slice(start: 0, count: 0)
  public var isEmpty: Bool { count == 0 }
  public var range: Range<Int> { Int(start)..<Int(start) + Int(count) }
}

extension RawSpan {
  /// The bytes of `slice`; traps when it does not lie inside.
  @_lifetime(copy self)
  public func extracting(_ slice: Slice) -> RawSpan { extracting(slice.range) }
}
