public import Services

/// What a path of the JSON gateway stands for. etcd: the `google.api.http` options of rpc.proto,
/// v3lock.proto and v3election.proto.
public struct Route: Sendable {
  public var method: Method
  /// Full names of the messages that go in and come out.
  public var request: String
  public var response: String

  /// Whether answers are chunks of `{"result":…}`, one for each message.
  public var isStream: Bool { method.isServerStreaming }

  private init(_ method: Method, _ request: String, _ response: String) {
    self.method = method
    self.request = request
    self.response = response
  }

  /// The route of a path that begins with `/v3/` or the older `/v3beta/`.
  public init?(path: String) {
    var rest = path[...]
    if rest.hasPrefix("/v3/") {
      rest.removeFirst(4)
    } else if rest.hasPrefix("/v3beta/") {
      rest.removeFirst(8)
    } else {
      return nil
    }
    guard let route = Self.routes[String(rest)] else { return nil }
    self = route
  }

  /// Whether the path is the gateway's, with a route or without.
  public static func owns(_ path: String) -> Bool {
    path.hasPrefix("/v3/") || path.hasPrefix("/v3beta/")
  }

  /// Every path after `/v3/`, in bytewise order.
  public static var paths: [String] { routes.keys.sorted() }

  private static let routes: [String: Route] = {
    var routes: [String: Route] = [:]
    for (path, method, name) in table {
      routes[path] = Route(
        method, "etcdserverpb.\(name)Request", "etcdserverpb.\(name)Response")
    }
    for (path, method, name) in elections {
      let request = method == .observe ? "Leader" : name
      let package = method == .lock || method == .unlock ? "v3lockpb" : "v3electionpb"
      routes[path] = Route(
        method, "\(package).\(request)Request", "\(package).\(request)Response")
    }
    return routes
  }()

  private static let elections: [(String, Method, String)] = [
    ("lock/lock", .lock, "Lock"), ("lock/unlock", .unlock, "Unlock"),
    ("election/campaign", .campaign, "Campaign"), ("election/proclaim", .proclaim, "Proclaim"),
    ("election/leader", .leader, "Leader"), ("election/observe", .observe, "Leader"),
    ("election/resign", .resign, "Resign"),
  ]

  private static let table: [(String, Method, String)] = [
    ("kv/range", .range, "Range"), ("kv/put", .put, "Put"),
    ("kv/deleterange", .deleteRange, "DeleteRange"), ("kv/txn", .txn, "Txn"),
    ("kv/compaction", .compact, "Compaction"), ("watch", .watch, "Watch"),
    ("lease/grant", .leaseGrant, "LeaseGrant"), ("lease/revoke", .leaseRevoke, "LeaseRevoke"),
    ("kv/lease/revoke", .leaseRevoke, "LeaseRevoke"),
    ("lease/keepalive", .leaseKeepAlive, "LeaseKeepAlive"),
    ("lease/timetolive", .leaseTimeToLive, "LeaseTimeToLive"),
    ("kv/lease/timetolive", .leaseTimeToLive, "LeaseTimeToLive"),
    ("lease/leases", .leaseLeases, "LeaseLeases"),
    ("kv/lease/leases", .leaseLeases, "LeaseLeases"),
    ("cluster/member/add", .memberAdd, "MemberAdd"),
    ("cluster/member/remove", .memberRemove, "MemberRemove"),
    ("cluster/member/update", .memberUpdate, "MemberUpdate"),
    ("cluster/member/list", .memberList, "MemberList"),
    ("cluster/member/promote", .memberPromote, "MemberPromote"),
    ("maintenance/alarm", .alarm, "Alarm"), ("maintenance/status", .status, "Status"),
    ("maintenance/defragment", .defragment, "Defragment"), ("maintenance/hash", .hash, "Hash"),
    ("maintenance/hashkv", .hashKV, "HashKV"), ("maintenance/snapshot", .snapshot, "Snapshot"),
    ("maintenance/transfer-leadership", .moveLeader, "MoveLeader"),
    ("maintenance/downgrade", .downgrade, "Downgrade"),
    ("auth/enable", .authEnable, "AuthEnable"), ("auth/disable", .authDisable, "AuthDisable"),
    ("auth/status", .authStatus, "AuthStatus"),
    ("auth/authenticate", .authenticate, "Authenticate"),
    ("auth/user/add", .userAdd, "AuthUserAdd"), ("auth/user/get", .userGet, "AuthUserGet"),
    ("auth/user/list", .userList, "AuthUserList"),
    ("auth/user/delete", .userDelete, "AuthUserDelete"),
    ("auth/user/changepw", .userChangePassword, "AuthUserChangePassword"),
    ("auth/user/grant", .userGrantRole, "AuthUserGrantRole"),
    ("auth/user/revoke", .userRevokeRole, "AuthUserRevokeRole"),
    ("auth/role/add", .roleAdd, "AuthRoleAdd"), ("auth/role/get", .roleGet, "AuthRoleGet"),
    ("auth/role/list", .roleList, "AuthRoleList"),
    ("auth/role/delete", .roleDelete, "AuthRoleDelete"),
    ("auth/role/grant", .roleGrantPermission, "AuthRoleGrantPermission"),
    ("auth/role/revoke", .roleRevokePermission, "AuthRoleRevokePermission"),
  ]
}
