internal import Basics

/// What applying has counted, on the apply thread.
public struct ApplyTally: Sendable {
  /// Requests by what etcd calls them.
  public enum Operation: Int, CaseIterable, Sendable {
    case range, put, deleteRange, txn, compaction, leaseGrant, leaseRevoke, leaseCheckpoint, alarm
    case auth, clusterVersionSet, clusterMemberAttrSet, downgradeInfoSet, other

    /// etcd: the `op` label of `apply_duration_seconds`.
    public var name: String {
      switch self {
      case .range: "Range"
      case .put: "Put"
      case .deleteRange: "DeleteRange"
      case .txn: "Txn"
      case .compaction: "Compaction"
      case .leaseGrant: "LeaseGrant"
      case .leaseRevoke: "LeaseRevoke"
      case .leaseCheckpoint: "LeaseCheckpoint"
      case .alarm: "Alarm"
      case .auth: "Auth"
      case .clusterVersionSet: "ClusterVersionSet"
      case .clusterMemberAttrSet: "ClusterMemberAttrSet"
      case .downgradeInfoSet: "DowngradeInfoSet"
      case .other: "unknown"
      }
    }
  }

  /// Upper bounds, in seconds, of the buckets of lease lives; one more bucket has none.
  public static let ttlBounds: [Int64] = (0..<24).map { 1 << Int64($0) }

  public internal(set) var puts = 0
  public internal(set) var putBytes = 0
  public internal(set) var deletes = 0
  public internal(set) var ranges = 0
  /// Transactions of more than one operation.
  public internal(set) var txns = 0
  public internal(set) var leasesGranted = 0
  public internal(set) var leasesRevoked = 0
  public internal(set) var leasesRenewed = 0
  public internal(set) var leasesExpired = 0
  public internal(set) var ttls = Array(repeating: 0, count: Self.ttlBounds.count + 1)
  public internal(set) var ttlSum: Int64 = 0
  /// By operation: refused, carried out.
  public internal(set) var applied = Array(repeating: 0, count: Operation.allCases.count * 2)

  public init() {}

  var operations: Int { puts + deletes + ranges }

  mutating func granted(ttl: Int64) {
    leasesGranted += 1
    ttls[Self.ttlBounds.firstIndex { ttl <= $0 } ?? Self.ttlBounds.count] += 1
    ttlSum &+= ttl
  }

  mutating func applied(_ operation: Operation, isDone: Bool) {
    applied[operation.rawValue * 2 + (isDone ? 1 : 0)] += 1
  }
}

extension InternalRequest {
  var operation: ApplyTally.Operation {
    switch self {
    case .range: .range
    case .put: .put
    case .deleteRange: .deleteRange
    case .txn: .txn
    case .compaction: .compaction
    case .leaseGrant: .leaseGrant
    case .leaseRevoke: .leaseRevoke
    case .leaseCheckpoint: .leaseCheckpoint
    case .alarm: .alarm
    case .auth: .auth
    case .clusterVersion: .clusterVersionSet
    case .memberAttributes: .clusterMemberAttrSet
    case .downgrade: .downgradeInfoSet
    case .v2, .unknown: .other
    }
  }
}
