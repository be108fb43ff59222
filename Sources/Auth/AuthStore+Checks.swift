internal import Basics

extension AuthStore {
  /// Refuses an identity that may not read all of `range`.
  public func checkRead(_ who: Principal, _ range: KeyRange) throws(AuthError) {
    guard let place = try placeToCheck(who) else { return }
    guard Access.covers(access(ofUserAt: place).reads, range) else { throw .denied }
  }

  /// Refuses an identity that may not write all of `range`.
  public func checkWrite(_ who: Principal, _ range: KeyRange) throws(AuthError) {
    guard let place = try placeToCheck(who) else { return }
    guard Access.covers(access(ofUserAt: place).writes, range) else { throw .denied }
  }

  /// Refuses who is not root. Whether the identity is old does not matter here, as in etcd.
  public func checkAdmin(_ who: Principal) throws(AuthError) {
    guard isEnabled else { return }
    guard !who.user.isEmpty else { throw .userEmpty }
    guard let user = user(who.user) else { throw .userNotFound }
    guard user.isRoot else { throw .denied }
  }

  /// Whether nothing has to be checked for the identity.
  public func isAdmin(_ who: Principal) -> Bool {
    do { try checkAdmin(who) } catch { return false }
    return true
  }

  /// Refuses who has not said who they are.
  public func checkIdentified(_ who: Principal) throws(AuthError) {
    if isEnabled, who.revision == 0 { throw .userEmpty }
  }

  /// Refuses what was found out for an identity that has become old meanwhile.
  public func checkStillValid(_ who: Principal) throws(AuthError) {
    if isEnabled, who.revision != 0, who.revision != revision { throw .oldRevision }
  }

  /// Whose access decides; nil when all is allowed. etcd: `isOpPermitted`.
  private func placeToCheck(_ who: Principal) throws(AuthError) -> Int? {
    guard isEnabled else { return nil }
    guard who.revision != 0 else { throw .userEmpty }
    guard who.revision >= revision else { throw .oldRevision }
    guard let place = place(ofUser: who.user) else { throw .denied }
    return users[place].isRoot ? nil : place
  }

  // MARK: Passwords

  /// The hash that a user's password has to fit. etcd: `CheckPassword`.
  public func passwordHash(of name: AuthName) throws(AuthError) -> [UInt8] {
    guard isEnabled else { throw .notEnabled }
    guard let user = user(name) else { throw .failed }
    guard user.noPassword != true else { throw .noPasswordUser }
    return user.passwordHash
  }

  /// Refuses a token to who is gone or has no password: the last word, after the password was
  /// checked on the member that was asked. etcd: `Authenticate`.
  public func checkLogin(_ name: AuthName) throws(AuthError) {
    guard isEnabled else { throw .notEnabled }
    guard let user = user(name), user.noPassword != true else { throw .failed }
  }
}
