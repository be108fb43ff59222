import API
import Auth
import Basics
import MVCC
import Raft
import Replica
import Services
import Testing

@Suite struct `Permissions` {
  @Test func `of keys hold for every kind of request`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.put, Request.put("m2", "x", previous: true), token: alice)
    #expect(try member.call(.range, Request.get("m", end: "n"), token: alice).number(4) == 2)
    try member.call(.deleteRange, Request.get("m2"), token: alice)
    try member.call(.range, Request.get("shared"), token: alice)
    for (method, request) in [
      (Method.put, Request.put("shared", "x")), (.put, Request.put("n", "x")),
      (.range, Request.get("secret")), (.range, Request.get("m", end: "na")),
      (.range, Request.get("\0", end: "\0")), (.range, Request.get("m", end: "\0")),
      (.deleteRange, Request.get("shared")), (.deleteRange, Request.get("m", end: "z")),
      (.compact, Request.make((1, .number(2)))),
    ] {
      let before = member.replica.store.currentRevision
      #expect(throws: Failure.permissionDenied, "\(method)") {
        try member.call(method, request, token: alice)
      }
      #expect(member.replica.store.currentRevision == before)
    }
    #expect(try member.call(.range, Request.get("\0", end: "\0"), token: root).number(4) == 3)
    try member.call(.compact, Request.make((1, .number(2))), token: root)
  }

  @Test func `hold while an alarm is raised`() throws {
    let (member, root, alice) = try Harness.guarded()
    let raise = Request.make((1, .number(1)), (2, .number(5)), (3, .number(1)))
    try member.call(.alarm, raise, token: root)
    for (method, request) in [
      (Method.deleteRange, Request.get("shared")), (.userList, []),
      (.userGrantRole, Request.pair("alice", "root")),
    ] {
      #expect(throws: Failure.permissionDenied, "\(method)") {
        try member.call(method, request, token: alice)
      }
    }
    try member.call(.deleteRange, Request.get("m1"), token: alice)
  }

  @Test func `hold for reads of any state`() throws {
    let (member, _, alice) = try Harness.guarded()
    func serializable(_ key: String) -> [UInt8] {
      Request.make((1, .text(key)), (7, .number(1)))
    }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.range, serializable("secret"), token: alice)
    }
    #expect(throws: Failure.userEmpty) { try member.call(.range, serializable("m1")) }
    try member.call(.range, serializable("m1"), token: alice)
  }

  @Test func `hold for every part of a transaction`() throws {
    let (member, _, alice) = try Harness.guarded()
    let mine = (1, Request.get("m1"))
    let allowed = [
      Request.txn(
        [Request.compare("m1", target: 0, (4, .number(1)))], [(2, Request.put("m3", ""))], [mine]),
      Request.txn([Request.compare("shared", target: 0, (4, .number(1)))], [mine]),
    ]
    for request in allowed { try member.call(.txn, request, token: alice) }
    let secret = (1, Request.get("secret"))
    let refused = [
      Request.txn([Request.compare("secret", target: 0, (4, .number(1)))], [mine]),
      Request.txn(
        [Request.compare("secret", target: 0, (4, .number(1)))], [(2, Request.put("m3", ""))]),
      Request.txn([], [secret]),
      Request.txn([], [mine], [secret]),
      Request.txn([], [(2, Request.put("m3", ""))], [secret]),
      Request.txn([], [(2, Request.put("shared", ""))]),
      Request.txn([], [mine], [(3, Request.get("secret"))]),
    ]
    for request in refused {
      #expect(throws: Failure.permissionDenied) {
        try member.call(.txn, request, token: alice)
      }
    }
  }

  @Test func `hold for previous values`() throws {
    let (member, root, _) = try Harness.guarded()
    try member.call(.userAdd, Request.user("writer", "w"), token: root)
    try member.call(.roleAdd, Request.name("writing"), token: root)
    try member.call(
      .roleGrantPermission, Request.grant("writing", 1, "secret"), token: root)
    try member.call(.userGrantRole, Request.pair("writer", "writing"), token: root)
    let writer = try member.token("writer", "w")
    let deletion = Request.make((1, .text("secret")), (3, .number(1)))
    for (method, request) in [
      (Method.put, Request.put("secret", "", previous: true)), (.deleteRange, deletion),
      (.txn, Request.txn([], [(2, Request.put("secret", "", previous: true))])),
      (.txn, Request.txn([], [(3, deletion)])),
    ] {
      #expect(throws: Failure.permissionDenied) {
        try member.call(method, request, token: writer)
      }
    }
    try member.call(.put, Request.put("secret", ""), token: writer)
  }

  @Test func `hold for leases and their keys`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.leaseGrant, Request.make((1, .number(100)), (2, .number(7))), token: alice)
    try member.call(.put, Request.put("m1", "", lease: 7), token: alice)
    let keepAlive = member.open(.leaseKeepAlive, token: alice)
    member.send(keepAlive, Request.make((1, .number(7))))
    #expect(member.answers(keepAlive).count == 1)
    try member.call(
      .leaseTimeToLive, Request.make((1, .number(7)), (2, .number(1))), token: alice)
    // Root's key joins the lease: it is no longer alice's alone.
    try member.call(.put, Request.put("secret", "", lease: 7), token: root)
    #expect(throws: Failure.permissionDenied) {
      try member.call(.put, Request.put("m2", "", lease: 7), token: alice)
    }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.leaseRevoke, Request.make((1, .number(7))), token: alice)
    }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.leaseLeases, [], token: alice)
    }
    member.send(keepAlive, Request.make((1, .number(7))))
    #expect(member.end(keepAlive) == .some(.permissionDenied))
    try member.call(.leaseLeases, [], token: root)
    try member.call(.leaseRevoke, Request.make((1, .number(7))), token: root)
    #expect(try member.call(.range, Request.get("m1"), token: alice).number(4) == 0)
  }

  @Test func `of leases hold on members that do not lead`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.leaseGrant, Request.make((1, .number(100)), (2, .number(7))), token: root)
    try member.call(.put, Request.put("secret", "", lease: 7), token: root)
    try member.call(.leaseGrant, Request.make((1, .number(100)), (2, .number(8))), token: alice)
    member.services.status.leader = NodeID(5)
    let withKeys = Request.make((1, .number(7)), (2, .number(1)))
    #expect(throws: Failure.permissionDenied) {
      try member.call(.leaseTimeToLive, withKeys, token: alice)
    }
    let refused = member.open(.leaseKeepAlive, token: alice)
    member.send(refused, Request.make((1, .number(7))))
    #expect(member.end(refused) == .some(.permissionDenied))
    #expect(member.forwards.isEmpty)
    let own = member.open(.leaseKeepAlive, token: alice)
    member.send(own, Request.make((1, .number(8))))
    #expect(member.end(own) == nil)
    #expect(member.forwards.count == 1)
  }

  @Test func `are looked at for each of many keep-alives`() throws {
    let (member, root, alice) = try Harness.guarded()
    for lease in 1...3 {
      let request = Request.make((1, .number(100)), (2, .number(Int64(lease))))
      try member.call(.leaseGrant, request, token: alice)
    }
    try member.call(.put, Request.put("secret", "", lease: 3), token: root)
    let keepAlive = member.open(.leaseKeepAlive, token: alice)
    for lease in [1, 2, 1] {
      let message = Request.make((1, .number(Int64(lease))))
      member.services.receive(keepAlive, message.rawSpan, out: &member.outbox)
    }
    member.settle()
    #expect(member.answers(keepAlive).map { Message($0).number(2) } == [1, 2, 1])
    member.send(keepAlive, Request.make((1, .number(3))))
    #expect(member.end(keepAlive) == .some(.permissionDenied))
  }

  @Test func `do not keep a lease from running out`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.leaseGrant, Request.make((1, .number(2)), (2, .number(7))), token: root)
    try member.call(.put, Request.put("secret", "", lease: 7), token: root)
    for _ in 0..<8 { member.pass(Harness.second) }
    #expect(try member.call(.range, Request.get("secret"), token: root).number(4) == 0)
    _ = alice
  }

  @Test func `hold for watches, each of a stream by itself`() throws {
    let (member, root, alice) = try Harness.guarded()
    let watch = member.open(.watch, token: alice)
    member.send(watch, Request.watch("m", end: "n"))
    member.send(watch, Request.watch("secret"))
    member.send(watch, Request.watch("m", end: "z"))
    let answers = member.answers(watch).map(Message.init)
    #expect(answers.count == 3)
    #expect(answers[0].number(3) == 1 && answers[0].number(4) == 0)
    for refused in answers[1...] {
      #expect(refused.number(2) == -1 && refused.number(3) == 1 && refused.number(4) == 1)
      #expect(
        refused.text(6)
          == "rpc error: code = PermissionDenied desc = etcdserver: permission denied")
    }
    try member.call(.put, Request.put("secret", "x"), token: root)
    try member.call(.put, Request.put("m1", "x"), token: root)
    #expect(member.answers(watch).count == 4)
    let anonymous = member.open(.watch)
    member.send(anonymous, Request.watch("m1"))
    #expect(
      Message(member.answers(anonymous)[0]).text(6)
        == "rpc error: code = InvalidArgument desc = etcdserver: user name is empty")
    let forged = member.open(.watch, token: "x.1")
    member.send(forged, Request.watch("m1"))
    #expect(
      Message(member.answers(forged)[0]).text(6)
        == "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")
  }

  @Test func `let root alone run the cluster`() throws {
    let (member, root, alice) = try Harness.guarded()
    let one = Request.make((1, .number(1)))
    for method in [
      Method.memberAdd, .memberRemove, .memberUpdate, .memberPromote, .moveLeader, .compact,
      .userAdd, .userDelete, .userChangePassword, .userGrantRole, .userRevokeRole, .roleAdd,
      .roleDelete, .roleGrantPermission, .roleRevokePermission, .authEnable,
    ] {
      let request = method == .compact || method.path.description.contains("Cluster") ? one : []
      #expect(throws: Failure.permissionDenied, "\(method)") {
        try member.call(method, request, token: alice)
      }
      #expect(throws: Failure.userEmpty, "\(method)") { try member.call(method, request) }
    }
    for method in [Method.defragment, .hash, .hashKV, .snapshot] {
      #expect(throws: Failure(.unknown, "auth: permission denied"), "\(method)") {
        try member.call(method, [], token: alice)
      }
      #expect(throws: Failure(.unknown, "auth: user name is empty"), "\(method)") {
        try member.call(method, [])
      }
    }
    try member.call(.hash, [], token: root)
    try member.call(.alarm, one, token: root)
    #expect(throws: Failure.permissionDenied) { try member.call(.alarm, one, token: alice) }
    try member.call(.alarm, [], token: alice)
    try member.call(.status, [], token: alice)
    try member.call(.memberList, [], token: alice)
  }

  @Test func `hold for locks, and one that is given up goes`() throws {
    let (member, root, alice) = try Harness.guarded()
    let lock = Request.make((1, .text("m-lock")))
    #expect(throws: Failure(.unknown, "etcdserver: permission denied")) {
      try member.call(.lock, Request.make((1, .text("other"))), token: alice)
    }
    try member.call(.lock, lock, token: alice)
    let second = member.start(.lock, lock, token: alice)
    #expect(member.end(second) == nil)
    let keys = Request.get("m-lock/", end: "m-lock0")
    #expect(try member.call(.range, keys, token: root).number(4) == 2)
    member.services.cancelled(second, out: &member.outbox)
    member.settle()
    #expect(try member.call(.range, keys, token: root).number(4) == 1)
  }

  @Test func `that change while a request is on its way make it old`() throws {
    let (member, root, alice) = try Harness.guarded()
    member.isConnected = false
    let put = member.start(.put, Request.put("m1", "new"), token: alice)
    let waiting = member.pendingProposals
    member.pendingProposals = []
    member.isConnected = true
    try member.call(.userRevokeRole, Request.pair("alice", "mine"), token: root)
    member.pendingProposals = waiting
    member.settle()
    #expect(member.end(put) == .some(.oldAuthRevision))
    #expect(throws: Failure.permissionDenied) {
      try member.call(.put, Request.put("m1", "new"), token: alice)
    }
  }
}

/// etcd's published advisories that concern users and roles; each test fails without its guard.
@Suite struct `Advisories` {
  /// CVE-2018-16886: a gateway's own certificate is not its client's.
  @Test func `a gateway's certificate names nobody`() throws {
    let (member, _, _) = try Harness.guarded()
    #expect(throws: Failure.userEmpty) {
      try member.call(.range, Request.get("secret"), commonName: "root", isProxied: true)
    }
    try member.call(.range, Request.get("secret"), commonName: "root")
  }

  /// CVE-2020-15115, and GHSA-vjg6-93fv-qv64 for the answer: no password is not an empty one.
  @Test func `a user without a password logs in with none`() throws {
    let (member, root, _) = try Harness.guarded()
    try member.call(.userAdd, Request.user("cert", "pw", noPassword: true), token: root)
    for password in ["", "pw"] {
      #expect(throws: Failure.noPasswordUser) { try member.token("cert", password) }
    }
    #expect(member.passwordWork.count == 4)
    try member.call(.userChangePassword, Request.user("alice", ""), token: root)
    #expect(throws: Failure.authFailed) { try member.token("alice", "") }
    let forged = AuthRequests.authenticate(
      try AuthRequests.Login(Request.user("cert").rawSpan), tokenPrefix: [0x78])
    let proposal = Proposal(.auth(.authenticate), forged.rawSpan, id: 0)
    member.commit(.normal, proposal.data)
    #expect(
      member.replica.access.tokens.user(of: [UInt8]("x.\(member.index.rawValue - 1)".utf8)) == nil)
  }

  /// CVE-2021-28235 and GHSA-528j-9r78-wffx: passwords in logs, and in the log.
  @Test func `no password gets into the log`() throws {
    let (member, root, _) = try Harness.guarded()
    let password = "correct horse battery staple"
    try member.call(.userAdd, Request.user("bob", password), token: root)
    _ = try member.token("bob", password)
    try member.call(.userChangePassword, Request.user("bob", password + "!"), token: root)
    try member.call(.userAdd, Request.user("cert", password, noPassword: true), token: root)
    try member.call(.userChangePassword, Request.user("cert", password), token: root)
    let needle = [UInt8](password.utf8)
    // The harness' hash is the password behind a sign, so that base64 is what may be found.
    for entry in member.log {
      let data = entry.data
      let found = data.indices.contains { data[$0...].starts(with: needle) }
      #expect(!found, "entry \(entry.index.rawValue)")
    }
  }

  /// CVE-2023-32082: a lease's keys are told to who may read them.
  @Test func `a lease does not tell its keys to who may not read them`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.leaseGrant, Request.make((1, .number(100)), (2, .number(7))), token: root)
    try member.call(.put, Request.put("secret", "", lease: 7), token: root)
    let withKeys = Request.make((1, .number(7)), (2, .number(1)))
    #expect(throws: Failure.permissionDenied) {
      try member.call(.leaseTimeToLive, withKeys, token: alice)
    }
    #expect(throws: Failure.userEmpty) { try member.call(.leaseTimeToLive, withKeys) }
    #expect(try member.call(.leaseTimeToLive, withKeys, token: root).texts(5) == ["secret"])
    try member.call(.leaseTimeToLive, Request.make((1, .number(7))), token: alice)
  }

  /// CVE-2026-33413: calls that nobody in particular could make.
  @Test func `nobody in particular may do nothing`() throws {
    let (member, _, _) = try Harness.guarded()
    let one = Request.make((1, .number(1)))
    for (method, request) in [
      (Method.memberList, []), (.alarm, []), (.alarm, one), (.status, []), (.leaseGrant, one),
      (.leaseRevoke, one), (.leaseTimeToLive, one), (.leaseLeases, []), (.compact, one),
      (.moveLeader, one), (.downgrade, []),
    ] {
      #expect(throws: Failure.userEmpty, "\(method)") { try member.call(method, request) }
    }
    let keepAlive = member.open(.leaseKeepAlive)
    member.send(keepAlive, one)
    #expect(member.end(keepAlive) == .some(.userEmpty))
    #expect(throws: Failure(.unknown, "etcdserver: user name is empty")) {
      try member.call(.lock, Request.make((1, .text("m"))))
    }
  }

  /// CVE-2026-33343: transactions inside transactions.
  @Test func `a nested transaction needs what it does`() throws {
    let (member, _, alice) = try Harness.guarded()
    for inner in [
      Request.txn([], [(1, Request.get("secret"))]), Request.txn([], [(2, Request.put("z", ""))]),
      Request.txn([], [], [(3, Request.get("secret"))]),
      Request.txn([Request.compare("secret", target: 0, (4, .number(1)))], []),
      Request.txn([], [(4, Request.txn([], [(1, Request.get("secret"))]))]),
    ] {
      for request in [Request.txn([], [(4, inner)]), Request.txn([], [], [(4, inner)])] {
        #expect(throws: Failure.permissionDenied) {
          try member.call(.txn, request, token: alice)
        }
      }
    }
    let mine = Request.txn([], [(4, Request.txn([], [(2, Request.put("m9", ""))]))])
    try member.call(.txn, mine, token: alice)
  }

  /// CVE-2026-44283: previous values and leases of puts in transactions.
  @Test func `a put in a transaction is as any other`() throws {
    let (member, root, alice) = try Harness.guarded()
    try member.call(.roleGrantPermission, Request.grant("mine", 1, "drop"), token: root)
    let request = Request.txn([], [(2, Request.put("drop", "", previous: true))])
    #expect(throws: Failure.permissionDenied) { try member.call(.txn, request, token: alice) }
    try member.call(.leaseGrant, Request.make((1, .number(100)), (2, .number(7))), token: root)
    try member.call(.put, Request.put("secret", "", lease: 7), token: root)
    let attach = Request.txn([], [(2, Request.put("m1", "", lease: 7))])
    #expect(throws: Failure.permissionDenied) { try member.call(.txn, attach, token: alice) }
    #expect(throws: Failure.permissionDenied) {
      try member.call(.txn, Request.txn([], [(4, attach)]), token: alice)
    }
  }

  /// GHSA-xg4h-6gfc-h4m8: a watch from a key on.
  @Test func `a watch from a key on needs all keys from there`() throws {
    let (member, root, _) = try Harness.guarded()
    try member.call(.userAdd, Request.user("bob", "b"), token: root)
    try member.call(.roleAdd, Request.name("one"), token: root)
    try member.call(.roleGrantPermission, Request.grant("one", 0, "m1"), token: root)
    try member.call(.userGrantRole, Request.pair("bob", "one"), token: root)
    let watch = member.open(.watch, token: try member.token("bob", "b"))
    member.send(watch, Request.watch("m1", end: "\0"))
    member.send(watch, Request.watch("", end: "\0"))
    member.send(watch, Request.watch("m1"))
    let answers = member.answers(watch).map(Message.init)
    #expect(answers.map { $0.number(4) } == [1, 1, 0])
    try member.call(.put, Request.put("secret", "x"), token: root)
    #expect(member.answers(watch).count == 3)
  }
}
