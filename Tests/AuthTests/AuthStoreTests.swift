import Auth
import Basics
import Testing

func name(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

func range(_ key: String, _ end: String = "") -> KeyRange {
  KeyRange(key: name(key), end: name(end))
}

/// Who `user` is now.
func now(_ user: String, in store: AuthStore) -> Principal {
  Principal(user: name(user), revision: store.revision)
}

/// A store with checks on: root, and alice, who has the role `reader` and one permission.
func enabledStore(_ permission: Permission) throws -> AuthStore {
  var store = AuthStore()
  try store.addUser(name("root"), hash: name("#root"), noPassword: false)
  try store.grant(role: name("root"), to: name("root"))
  try store.addUser(name("alice"), hash: name("#alice"), noPassword: false)
  try store.addRole(name("reader"))
  try store.grant(permission, to: name("reader"))
  try store.grant(role: name("reader"), to: name("alice"))
  try store.enable()
  _ = store.takeChanges()
  return store
}

@Suite struct `Users and roles` {
  @Test func `a new store has its first revision and says so once`() {
    var store = AuthStore()
    #expect(store.revision == 1)
    #expect(store.takeChanges() == [.revision(1)])
    #expect(store.takeChanges().isEmpty)
    var old = AuthStore(isEnabled: false, revision: 7, users: [], roles: [])
    #expect(old.takeChanges().isEmpty)
  }

  @Test func `every change is a record and a revision`() throws {
    var store = AuthStore()
    _ = store.takeChanges()
    try store.addUser(name("a"), hash: name("h"), noPassword: false)
    let user = AuthUser(name: name("a"), passwordHash: name("h"), noPassword: false)
    #expect(store.takeChanges() == [.user(user), .revision(2)])
    try store.addRole(name("r"))
    try store.grant(role: name("r"), to: name("a"))
    _ = store.takeChanges()
    try store.deleteRole(name("r"))
    #expect(store.takeChanges() == [.roleRemoved(name("r")), .user(user), .revision(5)])
    try store.deleteUser(name("a"))
    #expect(store.takeChanges() == [.userRemoved(name("a")), .revision(6)])
  }

  @Test func `a role granted twice makes no second revision`() throws {
    var store = AuthStore()
    try store.addUser(name("a"), hash: [], noPassword: false)
    try store.grant(role: name("root"), to: name("a"))
    let revision = store.revision
    try store.grant(role: name("root"), to: name("a"))
    #expect(store.revision == revision)
  }

  @Test func `refusals are etcd's`() throws {
    var store = AuthStore()
    #expect(throws: AuthError.userEmpty) {
      try store.addUser([], hash: [], noPassword: false)
    }
    #expect(throws: AuthError.noPasswordUser) {
      try store.addUser(name("a"), hash: nil, noPassword: false)
    }
    // LMDB has no room for longer keys: every member would fail to store it, at every start.
    #expect(throws: AuthError.nameTooLong) {
      try store.addUser(AuthName(repeating: 97, count: 512), hash: [], noPassword: false)
    }
    #expect(throws: AuthError.nameTooLong) {
      try store.addRole(AuthName(repeating: 97, count: 512))
    }
    try store.addRole(AuthName(repeating: 97, count: 511))
    try store.deleteRole(AuthName(repeating: 97, count: 511))
    try store.addUser(name("a"), hash: nil, noPassword: true)
    #expect(throws: AuthError.userExists) {
      try store.addUser(name("a"), hash: [], noPassword: false)
    }
    #expect(throws: AuthError.userNotFound) { try store.deleteUser(name("b")) }
    #expect(throws: AuthError.userNotFound) {
      try store.changePassword(of: name("b"), hash: [])
    }
    #expect(throws: AuthError.roleNotFound) { try store.grant(role: name("r"), to: name("a")) }
    #expect(throws: AuthError.roleNotGranted) {
      try store.revoke(role: name("r"), from: name("a"))
    }
    #expect(throws: AuthError.roleEmpty) { try store.addRole([]) }
    try store.addRole(name("r"))
    #expect(throws: AuthError.roleExists) { try store.addRole(name("r")) }
    #expect(throws: AuthError.roleNotFound) { try store.deleteRole(name("q")) }
    #expect(throws: AuthError.permissionNotGiven) { try store.grant(nil, to: name("r")) }
    #expect(throws: AuthError.permissionNotGranted) {
      try store.revoke(range("k"), from: name("r"))
    }
    for wrong in [range("", "b"), range("b", "a"), range("b", "b")] {
      #expect(throws: AuthError.invalidManagement) {
        try store.grant(Permission(.read, wrong), to: name("r"))
      }
    }
    #expect(throws: AuthError.rootUserMissing) { try store.enable() }
    try store.addUser(name("root"), hash: [], noPassword: false)
    #expect(throws: AuthError.rootRoleMissing) { try store.enable() }
  }

  @Test func `root cannot be taken apart while the checks are on`() throws {
    var store = try enabledStore(Permission(.read, range("a")))
    #expect(throws: AuthError.invalidManagement) { try store.deleteUser(name("root")) }
    #expect(throws: AuthError.invalidManagement) { try store.deleteRole(name("root")) }
    #expect(throws: AuthError.invalidManagement) {
      try store.revoke(role: name("root"), from: name("root"))
    }
    store.disable()
    try store.revoke(role: name("root"), from: name("root"))
    try store.deleteUser(name("root"))
  }

  @Test func `names that letters compose differently are different users`() throws {
    var store = AuthStore()
    try store.addUser(name("e\u{301}"), hash: [], noPassword: false)
    #expect(store.user(name("\u{e9}")) == nil)
  }

  @Test func `the same range gets another kind, the first of its key only`() throws {
    var store = AuthStore()
    try store.addRole(name("r"))
    try store.grant(Permission(.read, range("a", "c")), to: name("r"))
    try store.grant(Permission(.write, range("a", "c")), to: name("r"))
    try store.grant(Permission(.read, range("a", "d")), to: name("r"))
    try store.grant(Permission(.write, range("a", "d")), to: name("r"))
    #expect(
      store.role(name("r"))?.permissions == [
        Permission(.write, range("a", "c")), Permission(.read, range("a", "d")),
        Permission(.write, range("a", "d")),
      ])
    try store.revoke(range("a", "d"), from: name("r"))
    #expect(store.role(name("r"))?.permissions.count == 1)
  }

  @Test func `users see themselves and their roles, root sees all`() throws {
    let store = try enabledStore(Permission(.read, range("a")))
    let alice = now("alice", in: store)
    #expect(try store.roles(of: name("alice"), for: alice) == [name("reader")])
    #expect(throws: AuthError.denied) { try store.roles(of: name("root"), for: alice) }
    #expect(try store.permissions(of: name("reader"), for: alice).count == 1)
    #expect(throws: AuthError.denied) { try store.permissions(of: name("root"), for: alice) }
    #expect(throws: AuthError.userEmpty) { try store.roles(of: name("alice"), for: .none) }
    #expect(try store.roles(of: name("alice"), for: now("root", in: store)).count == 1)
  }
}

@Suite struct `Checks` {
  @Test func `nothing is refused while the checks are off`() throws {
    var store = try enabledStore(Permission(.read, range("a")))
    store.disable()
    try store.checkWrite(.none, range("z"))
    try store.checkAdmin(.none)
    try store.checkIdentified(.none)
  }

  @Test func `who asks has to be known, current and allowed`() throws {
    var store = try enabledStore(Permission(.read, range("a")))
    let alice = now("alice", in: store)
    try store.checkRead(alice, range("a"))
    #expect(throws: AuthError.denied) { try store.checkWrite(alice, range("a")) }
    #expect(throws: AuthError.denied) { try store.checkRead(alice, range("b")) }
    #expect(throws: AuthError.userEmpty) { try store.checkRead(.none, range("a")) }
    #expect(throws: AuthError.denied) { try store.checkRead(now("bob", in: store), range("a")) }
    #expect(throws: AuthError.denied) { try store.checkAdmin(alice) }
    #expect(throws: AuthError.userNotFound) { try store.checkAdmin(now("bob", in: store)) }
    #expect(throws: AuthError.userEmpty) { try store.checkAdmin(.none) }
    try store.checkRead(now("root", in: store), KeyRange(key: [0], end: [0]))
    try store.addRole(name("other"))
    #expect(throws: AuthError.oldRevision) { try store.checkRead(alice, range("a")) }
    #expect(throws: AuthError.oldRevision) {
      try store.checkRead(Principal(user: name("root"), revision: 1), range("a"))
    }
  }

  @Test func `an open end needs a permission with an open end`() throws {
    let bounded = try enabledStore(Permission(.read, range("a", "z")))
    let open = KeyRange(key: name("b"), end: [0])
    #expect(throws: AuthError.denied) {
      try bounded.checkRead(now("alice", in: bounded), open)
    }
    let unbounded = try enabledStore(Permission(.read, KeyRange(key: name("a"), end: [0])))
    try unbounded.checkRead(now("alice", in: unbounded), open)
    try unbounded.checkRead(now("alice", in: unbounded), range("b", "zz"))
    #expect(throws: AuthError.denied) {
      try unbounded.checkRead(now("alice", in: unbounded), KeyRange(key: [0], end: [0]))
    }
  }

  @Test func `permissions on neighbouring ranges add up`() throws {
    var store = try enabledStore(Permission(.read, range("a", "c")))
    try store.grant(Permission(.readWrite, range("c", "e")), to: name("reader"))
    try store.grant(Permission(.read, range("f")), to: name("reader"))
    let alice = now("alice", in: store)
    try store.checkRead(alice, range("b", "e"))
    #expect(throws: AuthError.denied) { try store.checkRead(alice, range("b", "f")) }
    #expect(throws: AuthError.denied) { try store.checkWrite(alice, range("b", "e")) }
    try store.checkWrite(alice, range("d"))
    try store.checkRead(alice, range("f"))
    #expect(throws: AuthError.denied) { try store.checkRead(alice, range("f", "fa")) }
  }

  /// Against keys counted one by one: all keys of one or two letters, all ranges of them.
  @Test(arguments: 0..<20) func `merged permissions allow what single ones add up to`(
    seed: UInt64
  ) throws {
    var random = Random(seed: seed)
    let letters: [UInt8] = [0x61, 0x62, 0x63]
    var keys: [[UInt8]] = []
    for a in letters {
      keys.append([a])
      for b in letters { keys.append([a, b]) }
    }
    func holds(_ range: KeyRange, _ key: [UInt8]) -> Bool {
      if range.end.isEmpty { return key == range.key }
      if key.lexicographicallyPrecedes(range.key) { return false }
      return range.isOpenEnded || key.lexicographicallyPrecedes(range.end)
    }
    func draw() -> KeyRange {
      let key = keys[Int(random.next() % UInt64(keys.count))]
      switch random.next() % 8 {
      case 0: return KeyRange(key: key)
      case 1: return KeyRange(key: key, end: [0])
      default:
        let end = keys[Int(random.next() % UInt64(keys.count))]
        return key.lexicographicallyPrecedes(end) ? KeyRange(key: key, end: end) : draw()
      }
    }
    var store = try enabledStore(Permission(.read, range("zz")))
    var granted: [KeyRange] = [range("zz")]
    for _ in 0..<4 {
      granted.append(draw())
      try store.grant(Permission(.read, granted[granted.count - 1]), to: name("reader"))
    }
    let alice = now("alice", in: store)
    for _ in 0..<200 {
      let asked = draw()
      // Finer than the keys that ranges are made of: each with a tail of its own.
      let inside = keys.flatMap { [$0, $0 + [0], $0 + [0x7a]] }.filter { holds(asked, $0) }
      let open = granted.contains { $0.isOpenEnded }
      let expected =
        inside.allSatisfy { key in granted.contains { holds($0, key) } }
        && (!asked.isOpenEnded || open)
      let allowed = (try? store.checkRead(alice, asked)) != nil
      #expect(allowed == expected, "\(asked) with \(granted)")
    }
  }

  @Test func `only users with a password can log in, while the checks are on`() throws {
    var store = try enabledStore(Permission(.read, range("a")))
    try store.addUser(name("cert"), hash: nil, noPassword: true)
    #expect(try store.passwordHash(of: name("alice")) == name("#alice"))
    #expect(throws: AuthError.failed) { try store.passwordHash(of: name("bob")) }
    #expect(throws: AuthError.noPasswordUser) { try store.passwordHash(of: name("cert")) }
    #expect(throws: AuthError.failed) { try store.checkLogin(name("cert")) }
    #expect(throws: AuthError.failed) { try store.checkLogin(name("bob")) }
    try store.checkLogin(name("alice"))
    store.disable()
    #expect(throws: AuthError.notEnabled) { try store.passwordHash(of: name("alice")) }
    #expect(throws: AuthError.notEnabled) { try store.checkLogin(name("alice")) }
  }
}
