internal import API
public import Auth
internal import Basics
internal import Lease
internal import MVCC

extension Failure {
  /// As etcd maps its errors for clients (api/v3rpc/util.go).
  public init(_ error: AuthError) {
    switch error {
    case .rootUserMissing: self = .rootUserMissing
    case .rootRoleMissing: self = .rootRoleMissing
    case .userExists: self = .userExists
    case .userEmpty: self = .userEmpty
    case .userNotFound: self = .userNotFound
    case .roleExists: self = .roleExists
    case .roleEmpty: self = .roleEmpty
    case .roleNotFound: self = .roleNotFound
    case .permissionNotGiven: self = .permissionNotGiven
    case .permissionNotGranted: self = .permissionNotGranted
    case .roleNotGranted: self = .roleNotGranted
    case .failed: self = .authFailed
    case .noPasswordUser: self = .noPasswordUser
    case .denied: self = .permissionDenied
    case .notEnabled: self = .authNotEnabled
    case .oldRevision: self = .oldAuthRevision
    case .invalidToken: self = .invalidToken
    case .invalidManagement: self = .invalidAuthManagement
    case .nameTooLong: self = .nameTooLong
    }
  }
}

extension Replica {
  /// Refuses a request of the log that its user has no permission for.
  func checkPermission(
    _ request: borrowing InternalRequest, _ bytes: RawSpan, by who: Principal
  ) throws(Failure) {
    guard access.store.isEnabled else { return }
    do throws(AuthError) {
      switch request {
      case .range(let range): try access.store.checkRead(who, range.keys(bytes))
      case .put(let put):
        try Permissions.check(put, bytes, by: who, access.store) { lessor.keys(of: $0) }
      case .deleteRange(let delete):
        try Permissions.check(delete, bytes, by: who, access.store)
      case .txn(let txn):
        try Permissions.check(txn, bytes, by: who, access.store) { lessor.keys(of: $0) }
      case .leaseRevoke(let numbers):
        let keys = lessor.keys(of: LeaseID(numbers.signed(1)))
        try Permissions.checkWrites(of: keys, by: who, access.store)
      default: break
      }
    } catch {
      throw Failure(error)
    }
  }

  /// As whom this member proposes what it has to do by itself. etcd: `WithRoot`.
  var ownPrincipal: Principal {
    guard access.store.isEnabled else { return .none }
    return Principal(user: AuthStore.root, revision: access.store.revision)
  }

  /// Stores what auth changes have left. Under the write lock.
  mutating func saveAccess() {
    for change in access.store.takeChanges() {
      switch change {
      case .enabled(let isEnabled):
        store.putMeta(bucket: .auth, key: AuthRecords.enabledKey, value: [isEnabled ? 1 : 0])
      case .revision(let revision):
        store.putMeta(
          bucket: .auth, key: AuthRecords.revisionKey,
          value: AuthRecords.encode(revision: revision))
      case .user(let user):
        store.putMeta(bucket: .authUsers, key: user.name, value: AuthRecords.encode(user))
      case .userRemoved(let name): store.removeMeta(bucket: .authUsers, key: name)
      case .role(let role):
        store.putMeta(bucket: .authRoles, key: role.name, value: AuthRecords.encode(role))
      case .roleRemoved(let name): store.removeMeta(bucket: .authRoles, key: name)
      }
    }
  }

  // MARK: Tokens

  /// Whether `expireTokens` has something to look at.
  public func wantsTokenExpiry(now: UInt64) -> Bool {
    access.tokens.count > 0 && now >= tokensExpiredAt &+ 1_000_000_000
  }

  /// Ends simple tokens whose time is up. Under the write lock.
  public mutating func expireTokens(now: UInt64) {
    tokensExpiredAt = now
    access.tokens.expire(now: now)
  }

  /// Starts the time of tokens that were used anew. Under the write lock.
  public mutating func touch(_ tokens: [[UInt8]], now: UInt64) {
    for token in tokens { access.tokens.touch(token, now: now) }
  }

  // MARK: Requests

  /// Carries out a request of the auth service, etcd's in kind and number, and adds its response.
  mutating func apply(
    auth kind: RaftRequestKind, _ message: Slice, _ bytes: RawSpan, by who: Principal,
    now: UInt64, into response: inout [UInt8]
  ) throws(Failure) {
    let fields: ByteFields
    do { fields = try ByteFields(bytes, in: message) } catch {
      preconditionFailure("the log holds an auth request that cannot be read")
    }
    do throws(AuthError) {
      try checkAdmin(kind, by: who)
      switch kind {
      case .authEnable, .authDisable, .authStatus, .authenticate:
        try applySwitch(kind, fields, bytes, now: now, into: &response)
      case .authUserGet, .authUserList, .authRoleGet, .authRoleList:
        try applyQuestion(kind, fields, bytes, by: who, into: &response)
      case .authRoleAdd, .authRoleDelete, .authRoleGrantPermission, .authRoleRevokePermission:
        try applyToRole(kind, fields, bytes)
        response.appendHeader(header)
      default:
        try applyToUser(kind, fields, bytes)
        response.appendHeader(header)
      }
    } catch {
      throw Failure(error)
    }
    saveAccess()
  }

  private func checkAdmin(_ kind: RaftRequestKind, by who: Principal) throws(AuthError) {
    switch kind {
    // The first says who it is; the others look at that themselves.
    case .authenticate, .authUserGet, .authRoleGet: break
    default: try access.store.checkAdmin(who)
    }
  }

  private mutating func applySwitch(
    _ kind: RaftRequestKind, _ fields: ByteFields, _ bytes: RawSpan, now: UInt64,
    into response: inout [UInt8]
  ) throws(AuthError) {
    switch kind {
    case .authEnable:
      try access.store.enable()
      response.appendHeader(header)
    case .authDisable:
      if access.store.disable() { access.tokens.removeAll() }
      response.appendHeader(header)
    case .authStatus:
      response.appendHeader(header)
      response.appendField(2, access.store.isEnabled)
      response.appendField(3, access.store.revision)
    default:
      let user = fields.bytes(1, bytes)
      try access.store.checkLogin(user)
      response.appendHeader(header)
      switch config.tokenKind {
      case .simple:
        // The index is the one that etcd has set by now: of the entry before.
        let token = TokenTable.token(
          prefix: fields.bytes(3, bytes), index: store.consistentIndex.rawValue)
        access.tokens.assign(token, to: user, now: now)
        response.appendField(2, token.rawSpan)
      // The member that was asked signs it.
      case .signed: break
      case .none: throw .failed
      }
    }
  }

  private mutating func applyToUser(
    _ kind: RaftRequestKind, _ fields: ByteFields, _ bytes: RawSpan
  ) throws(AuthError) {
    let name = fields.bytes(1, bytes)
    switch kind {
    case .authUserAdd:
      let options = fields[3].flatMap { try? Numbers(bytes, in: $0) }
      try access.store.addUser(
        name, hash: hash(fields, field: 4, bytes),
        noPassword: options.map { $0[1] != 0 } ?? false)
    case .authUserDelete:
      try access.store.deleteUser(name)
      access.tokens.removeAll(of: name)
    case .authUserChangePassword:
      try access.store.changePassword(of: name, hash: hash(fields, field: 3, bytes))
      access.tokens.removeAll(of: name)
    case .authUserGrantRole:
      try access.store.grant(role: fields.bytes(2, bytes), to: name)
    case .authUserRevokeRole:
      try access.store.revoke(role: fields.bytes(2, bytes), from: name)
    default: preconditionFailure("the log holds an auth request that this version cannot apply")
    }
  }

  /// The hash that a request brings; nil when it is none. Before 3.5 requests held the password
  /// itself and each member made another hash of it; here nothing fits such a user's password
  /// until it is changed, since hashing has no place on apply.
  private func hash(_ fields: ByteFields, field: Int, _ bytes: RawSpan) -> [UInt8]? {
    Base64.decode(fields.bytes(field, bytes))
  }

  private mutating func applyToRole(
    _ kind: RaftRequestKind, _ fields: ByteFields, _ bytes: RawSpan
  ) throws(AuthError) {
    let name = fields.bytes(1, bytes)
    switch kind {
    case .authRoleAdd: try access.store.addRole(name)
    case .authRoleDelete: try access.store.deleteRole(name)
    case .authRoleGrantPermission:
      var permission: Permission?
      if let slice = fields[2] {
        do { permission = try AuthRecords.permission(bytes, in: slice) } catch {
          preconditionFailure("the log holds a permission that cannot be read")
        }
      }
      try access.store.grant(permission, to: name)
    default:
      let range = KeyRange(key: fields.bytes(2, bytes), end: fields.bytes(3, bytes))
      try access.store.revoke(range, from: name)
    }
  }

  private func applyQuestion(
    _ kind: RaftRequestKind, _ fields: ByteFields, _ bytes: RawSpan, by who: Principal,
    into response: inout [UInt8]
  ) throws(AuthError) {
    let name = fields.bytes(1, bytes)
    switch kind {
    case .authUserGet:
      let roles = try access.store.roles(of: name, for: who)
      response.appendHeader(header)
      for role in roles { response.appendMessage(2, role.rawSpan) }
    case .authUserList:
      response.appendHeader(header)
      for user in access.store.users { response.appendMessage(2, user.name.rawSpan) }
    case .authRoleGet:
      let permissions = try access.store.permissions(of: name, for: who)
      response.appendHeader(header)
      for permission in permissions {
        AuthRecords.append(permission, field: 2, to: &response)
      }
    default:
      response.appendHeader(header)
      for role in access.store.roles { response.appendMessage(2, role.name.rawSpan) }
    }
  }

  // MARK: Questions about leases

  /// Refuses who may not prolong a lease: its keys would live on. etcd: `checkLeaseRenew`.
  func checkRenewal(of lease: LeaseID, by who: Principal) throws(Failure) {
    guard access.store.isEnabled else { return }
    do throws(AuthError) {
      try access.store.checkIdentified(who)
      try Permissions.checkWrites(of: lessor.keys(of: lease), by: who, access.store)
    } catch {
      throw Failure(error)
    }
  }

  /// Refuses who may not read the keys of these leases. etcd: `checkLeaseTimeToLive`,
  /// `checkLeaseLeases`.
  func checkListing(of leases: [LeaseID], by who: Principal) throws(Failure) {
    guard access.store.isEnabled else { return }
    do throws(AuthError) {
      try access.store.checkIdentified(who)
      for lease in leases {
        try Permissions.checkReads(of: lessor.keys(of: lease), by: who, access.store)
      }
    } catch {
      throw Failure(error)
    }
  }
}
