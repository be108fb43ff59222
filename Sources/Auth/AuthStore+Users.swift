internal import Basics

extension AuthStore {
  /// Adds a user. `hash`: nil when what the request holds is no hash.
  public mutating func addUser(
    _ name: AuthName, hash: [UInt8]?, noPassword: Bool
  ) throws(AuthError) {
    guard !name.isEmpty else { throw .userEmpty }
    guard name.count <= Limits.nameBytes else { throw .nameTooLong }
    guard user(name) == nil else { throw .userExists }
    guard let hash = noPassword ? [] : hash else { throw .noPasswordUser }
    put(AuthUser(name: name, passwordHash: hash, noPassword: noPassword))
    commit()
    merge()
  }

  /// Removes a user; root stays while the checks are on. The caller ends the user's tokens.
  public mutating func deleteUser(_ name: AuthName) throws(AuthError) {
    if isEnabled, name == AuthStore.root { throw .invalidManagement }
    guard let place = place(ofUser: name) else { throw .userNotFound }
    removeUser(at: place)
    commit()
    merge()
  }

  /// The caller ends the user's tokens.
  public mutating func changePassword(of name: AuthName, hash: [UInt8]?) throws(AuthError) {
    guard var user = user(name) else { throw .userNotFound }
    guard let hash = user.noPassword == true ? [] : hash else { throw .noPasswordUser }
    user.passwordHash = hash
    put(user)
    commit()
    merge()
  }

  /// Gives a role, which only root's may be without a record. One that the user has is nothing
  /// new and makes no revision.
  public mutating func grant(role: AuthName, to name: AuthName) throws(AuthError) {
    guard var user = user(name) else { throw .userNotFound }
    guard role == AuthStore.root || self.role(role) != nil else { throw .roleNotFound }
    let at = Self.position(of: role, in: user.roles) { $0 }
    if at < user.roles.count, user.roles[at] == role { return }
    user.roles.insert(role, at: at)
    put(user)
    commit()
    merge()
  }

  /// Takes a role; root keeps its own while the checks are on.
  public mutating func revoke(role: AuthName, from name: AuthName) throws(AuthError) {
    if isEnabled, name == AuthStore.root, role == AuthStore.root { throw .invalidManagement }
    guard var user = user(name) else { throw .userNotFound }
    guard user.roles.contains(role) else { throw .roleNotGranted }
    user.roles.removeAll { $0 == role }
    put(user)
    commit()
    merge()
  }

  /// The roles of a user, for root and for the user itself.
  public func roles(of name: AuthName, for who: Principal) throws(AuthError) -> [AuthName] {
    if name != who.user { try checkAdmin(who) }
    guard let user = user(name) else { throw .userNotFound }
    return user.roles
  }
}
