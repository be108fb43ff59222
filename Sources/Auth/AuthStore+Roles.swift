internal import Basics

extension AuthStore {
  public mutating func addRole(_ name: AuthName) throws(AuthError) {
    guard !name.isEmpty else { throw .roleEmpty }
    guard name.count <= Limits.nameBytes else { throw .nameTooLong }
    guard role(name) == nil else { throw .roleExists }
    put(AuthRole(name: name))
    commit()
    merge()
  }

  /// Removes a role, also from all users; root's stays while the checks are on.
  public mutating func deleteRole(_ name: AuthName) throws(AuthError) {
    if isEnabled, name == AuthStore.root { throw .invalidManagement }
    guard let place = place(ofRole: name) else { throw .roleNotFound }
    removeRole(at: place)
    for var user in users where user.roles.contains(name) {
      user.roles.removeAll { $0 == name }
      put(user)
    }
    commit()
    merge()
  }

  /// Gives a role a permission, or another kind on the very same range. Nil: none was given.
  ///
  /// As in etcd only the first permission of a key is looked at for the same range; members have
  /// to agree on the outcome.
  public mutating func grant(_ permission: Permission?, to name: AuthName) throws(AuthError) {
    guard let permission else { throw .permissionNotGiven }
    let range = permission.range
    guard Self.isValid(range) else { throw .invalidManagement }
    guard var role = role(name) else { throw .roleNotFound }
    let at = Self.position(of: range.key, in: role.permissions, \.range.key)
    if at < role.permissions.count, role.permissions[at].range == range {
      role.permissions[at].kind = permission.kind
    } else {
      var behind = at
      while behind < role.permissions.count, role.permissions[behind].range.key == range.key {
        behind += 1
      }
      role.permissions.insert(permission, at: behind)
    }
    put(role)
    commit()
    merge()
  }

  /// Takes every permission on exactly this range.
  public mutating func revoke(_ range: KeyRange, from name: AuthName) throws(AuthError) {
    guard var role = role(name) else { throw .roleNotFound }
    guard role.permissions.contains(where: { $0.range == range }) else {
      throw .permissionNotGranted
    }
    role.permissions.removeAll { $0.range == range }
    put(role)
    commit()
    merge()
  }

  /// The permissions of a role, for root and for those who have the role.
  public func permissions(
    of name: AuthName, for who: Principal
  ) throws(AuthError) -> [Permission] {
    if !(user(who.user)?.roles.contains(name) ?? false) { try checkAdmin(who) }
    guard let role = role(name) else { throw .roleNotFound }
    return role.permissions
  }

  /// etcd: `isValidPermissionRange`.
  private static func isValid(_ range: KeyRange) -> Bool {
    guard !range.key.isEmpty else { return false }
    return range.end.isEmpty || range.isOpenEnded
      || range.key.lexicographicallyPrecedes(range.end)
  }
}
