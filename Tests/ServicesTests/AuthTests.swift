import API
import Auth
import Basics
import MVCC
import Raft
import Replica
import Services
import Testing

@Suite struct `The auth service` {
  @Test func `keeps users and roles, and says what etcd says`() throws {
    let member = try Harness()
    #expect(throws: Failure.userEmpty) { try member.call(.userAdd, Request.user("", "x")) }
    try member.call(.userAdd, Request.user("u", "x"))
    #expect(throws: Failure.userExists) { try member.call(.userAdd, Request.user("u", "x")) }
    #expect(throws: Failure.userNotFound) { try member.call(.userGet, Request.name("v")) }
    #expect(throws: Failure.roleNotFound) {
      try member.call(.userGrantRole, Request.pair("u", "r"))
    }
    try member.call(.roleAdd, Request.name("r"))
    try member.call(.roleAdd, Request.name("q"))
    try member.call(.userGrantRole, Request.pair("u", "r"))
    try member.call(.userGrantRole, Request.pair("u", "q"))
    #expect(try member.call(.userGet, Request.name("u")).texts(2) == ["q", "r"])
    #expect(try member.call(.userList, []).texts(2) == ["u"])
    #expect(try member.call(.roleList, []).texts(2) == ["q", "r"])
    try member.call(.roleGrantPermission, Request.grant("r", 1, "k", end: "l"))
    let permission = try member.call(.roleGet, Request.name("r")).message(2)
    #expect(permission.number(1) == 1)
    #expect(permission.text(2) == "k" && permission.text(3) == "l")
    #expect(throws: Failure.permissionNotGiven) {
      try member.call(.roleGrantPermission, Request.name("r"))
    }
    #expect(throws: Failure.invalidAuthManagement) {
      try member.call(.roleGrantPermission, Request.grant("r", 1, "l", end: "k"))
    }
    #expect(throws: Failure.permissionNotGranted) {
      try member.call(.roleRevokePermission, Request.revoke("r", "k"))
    }
    try member.call(.roleRevokePermission, Request.revoke("r", "k", end: "l"))
    try member.call(.userRevokeRole, Request.pair("u", "q"))
    #expect(throws: Failure.roleNotGranted) {
      try member.call(.userRevokeRole, Request.pair("u", "q"))
    }
    try member.call(.roleDelete, Request.name("r"))
    #expect(try member.call(.userGet, Request.name("u")).texts(2) == [])
    #expect(throws: Failure.rootUserMissing) { try member.call(.authEnable, []) }
    try member.call(.userDelete, Request.name("u"))
    #expect(try member.call(.userList, []).texts(2) == [])
    let status = try member.call(.authStatus, [])
    #expect(status.number(2) == 0 && status.number(3) == 11)
    #expect(status.revision == 1)
  }

  @Test func `refuses what is no request`() throws {
    let member = try Harness()
    let broken = Request.make((1, .text("r")), (2, .message([0x08])))
    #expect(throws: Failure.malformed) { try member.call(.roleGrantPermission, broken) }
    let wrong = Request.make((1, .number(1)))
    for method in [Method.userAdd, .userGet, .roleAdd, .authenticate] {
      #expect(throws: Failure.malformed) { try member.call(method, wrong) }
    }
  }

  @Test func `switches checks on and off`() throws {
    let (member, root, alice) = try Harness.guarded()
    #expect(throws: Failure.userEmpty) { try member.call(.put, Request.put("m", "")) }
    #expect(throws: Failure.userEmpty) { try member.call(.range, Request.get("m")) }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.authDisable, [], token: alice)
    }
    #expect(throws: Failure.permissionDenied) { try member.call(.authStatus, [], token: alice) }
    #expect(try member.call(.authStatus, [], token: root).number(2) == 1)
    try member.call(.authDisable, [], token: root)
    try member.call(.put, Request.put("anything", ""))
    try member.call(.put, Request.put("anything", ""), token: "no.1")
    #expect(throws: Failure.authNotEnabled) {
      try member.call(.authenticate, Request.user("root", "r"))
    }
    try member.call(.authEnable, [])
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m"), token: root)
    }
  }

  @Test func `keeps root able to come back`() throws {
    let (member, root, _) = try Harness.guarded()
    #expect(throws: Failure.invalidAuthManagement) {
      try member.call(.userDelete, Request.name("root"), token: root)
    }
    #expect(throws: Failure.invalidAuthManagement) {
      try member.call(.userRevokeRole, Request.pair("root", "root"), token: root)
    }
    #expect(throws: Failure.invalidAuthManagement) {
      try member.call(.roleDelete, Request.name("root"), token: root)
    }
  }

  @Test func `shows users themselves and their roles only`() throws {
    let (member, root, alice) = try Harness.guarded()
    #expect(try member.call(.userGet, Request.name("alice"), token: alice).texts(2) == ["mine"])
    #expect(throws: Failure.permissionDenied) {
      try member.call(.userGet, Request.name("root"), token: alice)
    }
    #expect(
      try member.call(.roleGet, Request.name("mine"), token: alice).messages(2).count == 2)
    #expect(throws: Failure.permissionDenied) {
      try member.call(.roleGet, Request.name("root"), token: alice)
    }
    for method in [Method.userList, .roleList] {
      #expect(throws: Failure.permissionDenied) { try member.call(method, [], token: alice) }
      try member.call(method, [], token: root)
    }
  }

  @Test func `stores etcd's records and reads them at the next start`() throws {
    let (member, _, _) = try Harness.guarded()
    try member.call(.authDisable, [], token: try member.token("root", "r"))
    try member.call(.userAdd, Request.user("cert", noPassword: true))
    member.save()
    let reader = try member.backend.makeReader()
    try reader.renew()
    func row(_ bucket: Bucket, _ key: String) throws -> [UInt8] {
      var bytes: [UInt8] = []
      let key = [UInt8](key.utf8)
      _ = try reader.get(bucket, key.rawSpan, into: &bytes)
      return bytes
    }
    #expect(try row(.auth, "authEnabled") == [0])
    #expect(try row(.auth, "authRevision") == [0, 0, 0, 0, 0, 0, 0, 10])
    var user = AuthPB.User(
      name: [UInt8]("alice".utf8), password: [UInt8]("#a".utf8), roles: ["mine"],
      options: AuthPB.UserAddOptions())
    var wanted: [UInt8] = []
    user.encode(into: &wanted)
    #expect(try row(.authUsers, "alice") == wanted)
    user = AuthPB.User(
      name: [UInt8]("cert".utf8), options: AuthPB.UserAddOptions(noPassword: true))
    wanted = []
    user.encode(into: &wanted)
    #expect(try row(.authUsers, "cert") == wanted)
    let role = AuthPB.Role(
      name: [UInt8]("mine".utf8),
      keyPermission: [
        AuthPB.Permission(
          permType: .readWrite, key: [UInt8]("m".utf8), rangeEnd: [UInt8]("n".utf8)),
        AuthPB.Permission(permType: .read, key: [UInt8]("shared".utf8), rangeEnd: []),
      ])
    wanted = []
    role.encode(into: &wanted)
    #expect(try row(.authRoles, "mine") == wanted)
    let again = try Harness.makeReplica(member.backend, quotaBytes: 0)
    #expect(again.access.store.revision == 10)
    #expect(!again.access.store.isEnabled)
    #expect(again.access.store.users == member.replica.access.store.users)
    #expect(again.access.store.roles == member.replica.access.store.roles)
  }

  @Test func `gives every member that applies the log the same state`() throws {
    let (member, root, _) = try Harness.guarded()
    try member.call(.userDelete, Request.name("alice"), token: root)
    var other = try Harness.makeReplica(MemoryBackend(), quotaBytes: 0)
    var outcome = Outcome(loops: 1)
    other.apply(member.log, now: 5, into: &outcome)
    #expect(other.access.store.users == member.replica.access.store.users)
    #expect(other.access.store.roles == member.replica.access.store.roles)
    #expect(other.access.store.revision == member.replica.access.store.revision)
    let token = [UInt8](root.utf8)
    #expect(other.access.tokens.user(of: token) == [UInt8]("root".utf8))
  }
}

@Suite struct `Logins` {
  @Test func `give a token for the right password`() throws {
    let (member, _, _) = try Harness.guarded()
    #expect(throws: Failure.authFailed) { try member.token("alice", "b") }
    #expect(throws: Failure.authFailed) { try member.token("nobody", "a") }
    let token = try member.token("alice", "a")
    #expect(token.hasPrefix("token") && token.split(separator: ".").count == 2)
    try member.call(.range, Request.get("m1"), token: token)
    try member.call(.range, Request.get("m1"), token: "Bearer " + token)
  }

  @Test func `of a deleted user or an old password end`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.userChangePassword, Request.user("alice", "b"), token: root)
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: alice)
    }
    #expect(throws: Failure.authFailed) { try member.token("alice", "a") }
    let again = try member.token("alice", "b")
    try member.call(.range, Request.get("m1"), token: again)
    try member.call(.userDelete, Request.name("alice"), token: root)
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: again)
    }
  }

  @Test func `end when they are not used`() throws {
    let (member, root, alice) = try Harness.guarded()
    for _ in 0..<5 {
      member.pass(4 * Harness.second)
      try member.call(.range, Request.get("m1"), token: alice)
      member.pass(Harness.second / 10)
    }
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: root)
    }
    try member.call(.put, Request.put("m1", "x"), token: alice)
  }

  @Test func `wait for the entry that gives the token`() throws {
    let (member, _, alice) = try Harness.guarded()
    let next = member.index.rawValue + 2
    let early = member.start(.range, Request.get("m1"), token: "token9.\(next)")
    #expect(member.end(early) == nil)
    try member.call(.put, Request.put("m2", ""), token: alice)
    #expect(member.end(early) == nil)
    try member.call(.put, Request.put("m2", ""), token: alice)
    #expect(member.end(early) == .some(.invalidToken))
    let never = member.start(.put, Request.put("m1", ""), token: "x.18446744073709551615")
    #expect(member.end(never) == nil)
    member.pass(10 * Harness.second)
    #expect(member.end(never) == .some(.invalidToken))
  }

  @Test func `are checked again when users change meanwhile`() throws {
    let (member, root, _) = try Harness.guarded()
    member.doesPasswordWork = false
    let login = member.start(.authenticate, Request.user("alice", "a"))
    #expect(member.end(login) == nil)
    let work = try #require(member.passwordWorkWaiting.last)
    member.doesPasswordWork = true
    try member.call(.userChangePassword, Request.user("alice", "b"), token: root)
    // The check of the old hash comes back only now.
    member.finish(work, .fits(tokenPrefix: [0x78]))
    #expect(member.end(login) == .some(.authFailed))
  }

  @Test func `may wait longer for the password thread than for the log`() throws {
    let (member, _, _) = try Harness.guarded()
    member.doesPasswordWork = false
    let login = member.start(.authenticate, Request.user("alice", "a"))
    let late = member.start(.authenticate, Request.user("alice", "a"))
    member.pass(30 * Harness.second)
    #expect(member.end(login) == nil)
    member.finish(member.passwordWorkWaiting[0], .fits(tokenPrefix: [0x78]))
    #expect(member.end(login) == .some(nil))
    member.pass(31 * Harness.second)
    #expect(member.end(late) == .some(.timedOut))
    member.finish(member.passwordWorkWaiting[1], .fits(tokenPrefix: [0x78]))
    #expect(member.answers(late).isEmpty)
  }

  @Test func `with signed tokens are signed by the member that was asked`() throws {
    let settings = TokenSettings(kind: .signed) { token, _ in
      let parts = token.split(separator: 0x2f).map { [UInt8]($0) }
      guard parts.count == 2, let revision = UInt64(String(decoding: parts[1], as: UTF8.self))
      else { return nil }
      return TokenClaims(
        principal: Principal(user: parts[0], revision: revision), expires: 1_700_000_100)
    }
    let (member, root, alice) = try Harness.guarded(tokens: settings)
    #expect(alice == "alice/8")
    try member.call(.put, Request.put("m1", "x"), token: alice)
    try member.call(.range, Request.get("m1"), token: alice)
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: "alice")
    }
    try member.call(.roleAdd, Request.name("new"), token: root)
    #expect(throws: Failure.oldAuthRevision) {
      try member.call(.range, Request.get("m1"), token: alice)
    }
    #expect(throws: Failure.oldAuthRevision) {
      try member.call(.put, Request.put("m1", "x"), token: alice)
    }
    let fresh = try member.token("alice", "a")
    try member.call(.range, Request.get("m1"), token: fresh)
    member.services.status.unixSeconds += 100
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: fresh)
    }
  }

  @Test func `are not given when there are to be no tokens`() throws {
    let member = try Harness(tokens: TokenSettings(kind: .none))
    try member.call(.userAdd, Request.user("root", "r"))
    try member.call(.userGrantRole, Request.pair("root", "root"))
    try member.call(.authEnable, [])
    #expect(throws: Failure.authFailed) { try member.token("root", "r") }
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m"), token: "a.1")
    }
    try member.call(.range, Request.get("m"), commonName: "root")
  }

  @Test func `by a certificate's name need no password`() throws {
    let (member, root, _) = try Harness.guarded()
    try member.call(.userAdd, Request.user("cert", noPassword: true), token: root)
    try member.call(.userGrantRole, Request.pair("cert", "mine"), token: root)
    try member.call(.put, Request.put("m1", "x"), commonName: "cert")
    #expect(throws: Failure.permissionDenied) {
      try member.call(.range, Request.get("secret"), commonName: "cert")
    }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.range, Request.get("m1"), commonName: "stranger")
    }
    // A token counts for more than a certificate.
    #expect(throws: Failure.invalidToken) {
      try member.call(.range, Request.get("m1"), token: "x.1", commonName: "cert")
    }
  }
}
