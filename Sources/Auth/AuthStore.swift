internal import Basics

/// Users, roles and what they may do. etcd: `auth.authStore`.
///
/// Every change adds its records to `changes`, which the owner stores in the same batch as the
/// log entry that it came with. Members that apply the same entries hold the same bytes.
public struct AuthStore: Sendable {
  public enum Limits {
    /// Bytes of a name: the longest key that LMDB stores (`MDB_MAXKEYSIZE`).
    public static let nameBytes = 511
  }

  /// The name of the user and of the role that may do everything.
  public static let root: AuthName = [0x72, 0x6f, 0x6f, 0x74]

  public private(set) var isEnabled: Bool
  /// Counts changes. 0 only before the first start.
  public private(set) var revision: UInt64
  /// By name.
  public private(set) var users: [AuthUser]
  /// By name.
  public private(set) var roles: [AuthRole]
  /// What the user at the same place in `users` may do.
  private var access: [Access]
  /// Records that are not stored yet, in order.
  private var changes: [AuthChange] = []

  /// Nobody is known, everybody may do everything.
  public init() { self.init(isEnabled: false, revision: 0, users: [], roles: []) }

  /// What the records say, in any order. A store without a revision gets its first one.
  /// etcd: `NewAuthStore`, `Recover`.
  public init(isEnabled: Bool, revision: UInt64, users: [AuthUser], roles: [AuthRole]) {
    self.isEnabled = isEnabled
    self.revision = revision
    self.users = users.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    self.roles = roles.sorted { $0.name.lexicographicallyPrecedes($1.name) }
    access = []
    if revision == 0 { commit() }
    merge()
  }

  /// Hands over what is to be stored.
  public mutating func takeChanges() -> [AuthChange] {
    defer { changes.removeAll(keepingCapacity: true) }
    return changes
  }

  /// Switches the checks on. Does nothing when they are on.
  public mutating func enable() throws(AuthError) {
    guard !isEnabled else { return }
    guard let root = user(AuthStore.root) else { throw .rootUserMissing }
    guard root.isRoot else { throw .rootRoleMissing }
    isEnabled = true
    changes.append(.enabled(true))
  }

  /// Switches the checks off; true when they were on.
  @discardableResult
  public mutating func disable() -> Bool {
    guard isEnabled else { return false }
    isEnabled = false
    changes.append(.enabled(false))
    commit()
    return true
  }

  public func user(_ name: AuthName) -> AuthUser? { place(ofUser: name).map { users[$0] } }
  public func role(_ name: AuthName) -> AuthRole? { place(ofRole: name).map { roles[$0] } }

  func place(ofUser name: AuthName) -> Int? {
    let at = Self.position(of: name, in: users, \.name)
    return at < users.count && users[at].name == name ? at : nil
  }

  func place(ofRole name: AuthName) -> Int? {
    let at = Self.position(of: name, in: roles, \.name)
    return at < roles.count && roles[at].name == name ? at : nil
  }

  func access(ofUserAt place: Int) -> Access { access[place] }

  /// The first place whose name is not below `name`.
  static func position<Item>(
    of name: [UInt8], in items: [Item], _ key: (Item) -> [UInt8]
  ) -> Int {
    var low = 0
    var high = items.count
    while low < high {
      let middle = (low + high) / 2
      if key(items[middle]).lexicographicallyPrecedes(name) {
        low = middle + 1
      } else {
        high = middle
      }
    }
    return low
  }

  // MARK: Changes

  mutating func put(_ user: AuthUser) {
    let at = Self.position(of: user.name, in: users, \.name)
    if at < users.count, users[at].name == user.name {
      users[at] = user
    } else {
      users.insert(user, at: at)
    }
    changes.append(.user(user))
  }

  mutating func put(_ role: AuthRole) {
    let at = Self.position(of: role.name, in: roles, \.name)
    if at < roles.count, roles[at].name == role.name {
      roles[at] = role
    } else {
      roles.insert(role, at: at)
    }
    changes.append(.role(role))
  }

  mutating func removeUser(at place: Int) {
    changes.append(.userRemoved(users.remove(at: place).name))
  }

  mutating func removeRole(at place: Int) {
    changes.append(.roleRemoved(roles.remove(at: place).name))
  }

  /// Ends a change: identities established before it are old now. etcd: `commitRevision`.
  mutating func commit() {
    revision &+= 1
    changes.append(.revision(revision))
  }

  /// Works out again what each user may do. etcd: `refreshRangePermCache`.
  mutating func merge() {
    access = users.map { user in
      Access(user.roles.compactMap { role($0) }.flatMap(\.permissions))
    }
  }
}
