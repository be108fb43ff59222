internal import Basics

/// The name of a user or a role: bytes, compared bytewise, as the store keys them.
public typealias AuthName = [UInt8]

/// A key, or a range of keys. etcd: key and `range_end` of a request.
public struct KeyRange: Hashable, Sendable {
  public var key: [UInt8]
  /// Empty: the one key. A single zero byte: all keys from `key` on.
  public var end: [UInt8]

  public init(key: [UInt8], end: [UInt8] = []) {
    self.key = key
    self.end = end
  }

  public var isOpenEnded: Bool { end == [0] }
}

/// What a role may do with a range of keys. etcd: `authpb.Permission`.
public struct Permission: Hashable, Sendable {
  /// The number of `authpb.Permission.Type`; one that is not known grants nothing.
  public struct Kind: RawRepresentable, Hashable, Sendable {
    public var rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    public static let read = Kind(rawValue: 0)
    public static let write = Kind(rawValue: 1)
    public static let readWrite = Kind(rawValue: 2)

    public var allowsReads: Bool { self == .read || self == .readWrite }
    public var allowsWrites: Bool { self == .write || self == .readWrite }
  }

  public var kind: Kind
  public var range: KeyRange

  public init(_ kind: Kind, _ range: KeyRange) {
    self.kind = kind
    self.range = range
  }
}

/// etcd: `authpb.User`.
public struct AuthUser: Hashable, Sendable {
  public var name: AuthName
  /// The bcrypt hash; empty when no password fits.
  public var passwordHash: [UInt8]
  /// Sorted.
  public var roles: [AuthName]
  /// Nil in records of versions that knew no options, which is another record on disk.
  public var noPassword: Bool?

  public init(
    name: AuthName, passwordHash: [UInt8] = [], roles: [AuthName] = [], noPassword: Bool? = nil
  ) {
    self.name = name
    self.passwordHash = passwordHash
    self.roles = roles
    self.noPassword = noPassword
  }

  public var isRoot: Bool { roles.contains(AuthStore.root) }
}

/// etcd: `authpb.Role`.
public struct AuthRole: Hashable, Sendable {
  public var name: AuthName
  /// Sorted by key.
  public var permissions: [Permission]

  public init(name: AuthName, permissions: [Permission] = []) {
    self.name = name
    self.permissions = permissions
  }
}

/// A record that changed, for its owner to store.
public enum AuthChange: Equatable, Sendable {
  case enabled(Bool)
  case revision(UInt64)
  case user(AuthUser)
  case userRemoved(AuthName)
  case role(AuthRole)
  case roleRemoved(AuthName)
}

/// Why the auth store refuses. etcd: the errors of server/auth/store.go.
public enum AuthError: Error, Equatable, Sendable {
  case rootUserMissing, rootRoleMissing
  case userExists, userEmpty, userNotFound
  case roleExists, roleEmpty, roleNotFound
  case permissionNotGiven, permissionNotGranted, roleNotGranted
  case failed, noPasswordUser
  case denied
  case notEnabled
  case oldRevision
  case invalidToken
  case invalidManagement
  /// Beyond `AuthStore.Limits.nameBytes`.
  case nameTooLong
}

/// Who asks: a user and the auth revision at which that was established.
/// etcd: `auth.AuthInfo`.
public struct Principal: Hashable, Sendable {
  public var user: AuthName
  /// 0 when nobody has said who they are.
  public var revision: UInt64

  public init(user: AuthName, revision: UInt64) {
    self.user = user
    self.revision = revision
  }

  /// Nobody.
  public static let none = Principal(user: [], revision: 0)
}

/// What a signed token says.
public struct TokenClaims: Hashable, Sendable {
  public var principal: Principal
  /// Seconds since 1970; nil: never.
  public var expires: Int64?

  public init(principal: Principal, expires: Int64?) {
    self.principal = principal
    self.expires = expires
  }
}
