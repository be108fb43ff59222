/// Every method that is served or known.
public enum Method: UInt8, CaseIterable, Sendable {
  case range, put, deleteRange, txn, compact
  case watch
  case leaseGrant, leaseRevoke, leaseKeepAlive, leaseTimeToLive, leaseLeases
  case memberAdd, memberRemove, memberUpdate, memberList, memberPromote
  case alarm, status, defragment, hash, hashKV, snapshot, moveLeader, downgrade
  case authEnable, authDisable, authStatus, authenticate
  case userAdd, userGet, userList, userDelete, userChangePassword, userGrantRole, userRevokeRole
  case roleAdd, roleGet, roleList, roleDelete, roleGrantPermission, roleRevokePermission
  case lock, unlock
  case campaign, proclaim, leader, observe, resign
  case healthCheck, healthWatch

  /// The `:path` of the method's calls.
  public var path: StaticString {
    switch self {
    case .range: "/etcdserverpb.KV/Range"
    case .put: "/etcdserverpb.KV/Put"
    case .deleteRange: "/etcdserverpb.KV/DeleteRange"
    case .txn: "/etcdserverpb.KV/Txn"
    case .compact: "/etcdserverpb.KV/Compact"
    case .watch: "/etcdserverpb.Watch/Watch"
    case .leaseGrant: "/etcdserverpb.Lease/LeaseGrant"
    case .leaseRevoke: "/etcdserverpb.Lease/LeaseRevoke"
    case .leaseKeepAlive: "/etcdserverpb.Lease/LeaseKeepAlive"
    case .leaseTimeToLive: "/etcdserverpb.Lease/LeaseTimeToLive"
    case .leaseLeases: "/etcdserverpb.Lease/LeaseLeases"
    case .memberAdd: "/etcdserverpb.Cluster/MemberAdd"
    case .memberRemove: "/etcdserverpb.Cluster/MemberRemove"
    case .memberUpdate: "/etcdserverpb.Cluster/MemberUpdate"
    case .memberList: "/etcdserverpb.Cluster/MemberList"
    case .memberPromote: "/etcdserverpb.Cluster/MemberPromote"
    case .alarm: "/etcdserverpb.Maintenance/Alarm"
    case .status: "/etcdserverpb.Maintenance/Status"
    case .defragment: "/etcdserverpb.Maintenance/Defragment"
    case .hash: "/etcdserverpb.Maintenance/Hash"
    case .hashKV: "/etcdserverpb.Maintenance/HashKV"
    case .snapshot: "/etcdserverpb.Maintenance/Snapshot"
    case .moveLeader: "/etcdserverpb.Maintenance/MoveLeader"
    case .downgrade: "/etcdserverpb.Maintenance/Downgrade"
    case .authEnable: "/etcdserverpb.Auth/AuthEnable"
    case .authDisable: "/etcdserverpb.Auth/AuthDisable"
    case .authStatus: "/etcdserverpb.Auth/AuthStatus"
    case .authenticate: "/etcdserverpb.Auth/Authenticate"
    case .userAdd: "/etcdserverpb.Auth/UserAdd"
    case .userGet: "/etcdserverpb.Auth/UserGet"
    case .userList: "/etcdserverpb.Auth/UserList"
    case .userDelete: "/etcdserverpb.Auth/UserDelete"
    case .userChangePassword: "/etcdserverpb.Auth/UserChangePassword"
    case .userGrantRole: "/etcdserverpb.Auth/UserGrantRole"
    case .userRevokeRole: "/etcdserverpb.Auth/UserRevokeRole"
    case .roleAdd: "/etcdserverpb.Auth/RoleAdd"
    case .roleGet: "/etcdserverpb.Auth/RoleGet"
    case .roleList: "/etcdserverpb.Auth/RoleList"
    case .roleDelete: "/etcdserverpb.Auth/RoleDelete"
    case .roleGrantPermission: "/etcdserverpb.Auth/RoleGrantPermission"
    case .roleRevokePermission: "/etcdserverpb.Auth/RoleRevokePermission"
    case .lock: "/v3lockpb.Lock/Lock"
    case .unlock: "/v3lockpb.Lock/Unlock"
    case .campaign: "/v3electionpb.Election/Campaign"
    case .proclaim: "/v3electionpb.Election/Proclaim"
    case .leader: "/v3electionpb.Election/Leader"
    case .observe: "/v3electionpb.Election/Observe"
    case .resign: "/v3electionpb.Election/Resign"
    case .healthCheck: "/grpc.health.v1.Health/Check"
    case .healthWatch: "/grpc.health.v1.Health/Watch"
    }
  }

  /// The method of a `:path`; nil when there is none such.
  public init?(path: RawSpan) {
    for method in Method.allCases where method.path.utf8CodeUnitCount == path.byteCount {
      let isEqual = unsafe path.withUnsafeBytes { bytes in
        unsafe bytes.elementsEqual(
          UnsafeBufferPointer(
            start: method.path.utf8Start, count: method.path.utf8CodeUnitCount))
      }
      if isEqual {
        self = method
        return
      }
    }
    return nil
  }

  /// Whether the server may send more than one message.
  public var isServerStreaming: Bool {
    switch self {
    case .watch, .leaseKeepAlive, .snapshot, .observe, .healthWatch: true
    default: false
    }
  }

  /// Whether the client may send more than one message.
  public var isClientStreaming: Bool { self == .watch || self == .leaseKeepAlive }
}
