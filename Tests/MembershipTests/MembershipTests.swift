import Basics
import Membership
import Testing

private func member(
  _ id: UInt64, _ urls: [String], name: String = "", isLearner: Bool = false
) -> Member {
  Member(id: NodeID(id), name: name, peerURLs: urls, clientURLs: [], isLearner: isLearner)
}

private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

private func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

@Suite struct Identities {
  @Test func `the IDs of etcd's default cluster come out as etcd prints them`() throws {
    let cluster = try InitialCluster(parsing: "default=http://localhost:2380")
    let members = try cluster.members(token: "etcd-cluster", digest: sha1)
    #expect(members.map { Hex.text($0.id.rawValue) } == ["8e9e05c52164694d"])
    let id = clusterID(members: members.map(\.id), digest: sha1)
    #expect(Hex.text(id.rawValue) == "cdf818194e3a8c32")
  }

  @Test func `the order of URLs does not matter and the time of adding does`() {
    let urls = ["http://b:1", "http://a:1"]
    let one = memberID(peerURLs: urls, token: "t", addedAt: nil, digest: sha1)
    let other = memberID(peerURLs: urls.reversed(), token: "t", addedAt: nil, digest: sha1)
    let later = memberID(peerURLs: urls, token: "t", addedAt: 7, digest: sha1)
    #expect(one == other)
    #expect(one != later)
  }

  @Test func `a setting names members in any order and several URLs each`() throws {
    let cluster = try InitialCluster(parsing: "b=http://h:2,a=http://h:4,,b=http://h:1")
    #expect(cluster.entries.map(\.name) == ["a", "b"])
    #expect(cluster.entries[1].peerURLs == ["http://h:1", "http://h:2"])
  }

  @Test(arguments: [
    "a=ftp://h:1", "a=http://h", "a=http://h:1/path", "a", "a=http://:1,b=h:1", "a=http://h:x",
  ])
  func `a setting with a URL that etcd refuses is refused`(setting: String) {
    #expect(throws: InitialCluster.Invalid.self) { try InitialCluster(parsing: setting) }
  }

  @Test func `unix sockets, IPv6 hosts and empty ports are let in as etcd lets them`() throws {
    let urls = ["https://[::1]:2380", "unix://m1:0", "http://h:"]
    #expect(try checkedURLs(urls).count == 3)
  }
}

@Suite struct Records {
  @Test func `a member is written as Go writes it`() {
    var record = member(0x8e9e_05c5_2164_694d, ["http://h:1?a&b"], name: "m<1>")
    record.clientURLs = ["http://h:2"]
    #expect(
      text(record.json.encoded)
        == #"{"id":10276657743932975437,"peerURLs":["http://h:1?a\u0026b"],"#
        + #""name":"m\u003c1\u003e","clientURLs":["http://h:2"]}"#)
  }

  @Test func `a promotion carries etcd's flag`() throws {
    let change = MemberChange.promote(NodeID(7))
    #expect(text(change.context) == #"{"id":7,"peerURLs":null,"isPromote":true}"#)
    #expect(
      try MemberChange(kind: .addNode, node: NodeID(7), context: change.context) == change)
  }

  @Test func `a record is read whatever its case, order, spaces and unknown fields`() throws {
    let json = try JSON.parse(
      bytes(#" { "x" : [1, {"y":null}], "PeerURLs":["http:\/\/h:1"], "ID": 12, "name":"\u00e9" } "#)
    )
    let record = try Member(json)
    #expect(record == member(12, ["http://h:1"], name: "é"))
  }

  @Test(arguments: [
    "", "{", "[1,]", "{\"a\"}", "\"\\ud8\"", "nul", "{} x", "\u{1}", "{\"id\":-1}",
    "{\"id\":99999999999999999999}", "{\"peerURLs\":3}", "[]",
  ])
  func `bytes that are no record are refused`(document: String) {
    #expect(throws: (any Error).self) {
      try MemberChange(kind: .addNode, node: NodeID(1), context: bytes(document))
    }
  }

  @Test func `nesting beyond the limit is refused rather than followed`() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(throws: JSON.Malformed.self) { try JSON.parse(bytes(deep)) }
  }

  @Test func `a context that names another member than its entry is refused`() {
    let context = member(3, ["http://h:1"]).json.encoded
    #expect(throws: MemberRecordError.malformed) {
      try MemberChange(kind: .addNode, node: NodeID(4), context: context)
    }
  }
}

@Suite struct Changes {
  private func cluster(_ members: Member...) -> Cluster {
    var cluster = Cluster()
    for member in members { _ = cluster.apply(.add(member)) }
    return cluster
  }

  @Test func `adding is refused for a known ID, a known URL and a second learner`() {
    let cluster = cluster(
      member(1, ["http://a:1"]), member(2, ["http://b:1"], isLearner: true))
    #expect(throws: MemberChangeError.idExists) {
      try cluster.validate(.add(member(1, ["http://c:1"])))
    }
    #expect(throws: MemberChangeError.peerURLExists) {
      try cluster.validate(.add(member(3, ["http://a:1"])))
    }
    #expect(throws: MemberChangeError.tooManyLearners) {
      try cluster.validate(.add(member(3, ["http://c:1"], isLearner: true)))
    }
    #expect(throws: Never.self) { try cluster.validate(.add(member(3, ["http://c:1"]))) }
  }

  @Test func `removing, updating and promoting need the member, promoting a learner`() {
    let cluster = cluster(member(1, ["http://a:1"]), member(2, ["http://b:1"]))
    #expect(throws: MemberChangeError.idNotFound) { try cluster.validate(.remove(NodeID(9))) }
    #expect(throws: MemberChangeError.idNotFound) { try cluster.validate(.promote(NodeID(9))) }
    #expect(throws: MemberChangeError.notLearner) { try cluster.validate(.promote(NodeID(1))) }
    #expect(throws: MemberChangeError.peerURLExists) {
      try cluster.validate(.update(member(1, ["http://b:1"])))
    }
    #expect(throws: MemberChangeError.idNotFound) {
      try cluster.validate(.update(member(9, ["http://x:1"])))
    }
  }

  @Test func `a removed ID never comes back`() {
    var cluster = cluster(member(1, ["http://a:1"]), member(2, ["http://b:1"]))
    let rows = cluster.apply(.remove(NodeID(2)))
    #expect(rows.map(\.value) == [bytes("removed"), nil])
    #expect(throws: MemberChangeError.idRemoved) {
      try cluster.validate(.add(member(2, ["http://b:1"])))
    }
  }

  @Test func `a quorum of started members is protected`() {
    var cluster = cluster(member(1, ["http://a:1"], name: "a"))
    let second = MemberChange.add(member(2, ["http://b:1"]))
    #expect(throws: Never.self) { try cluster.checkQuorum(second) }
    _ = cluster.apply(second)
    #expect(throws: MemberChangeError.notEnoughStarted) {
      try cluster.checkQuorum(.add(member(3, ["http://c:1"])))
    }
    #expect(throws: MemberChangeError.notEnoughStarted) {
      try cluster.checkQuorum(.remove(NodeID(1)))
    }
    #expect(throws: Never.self) { try cluster.checkQuorum(.remove(NodeID(2))) }
  }

  @Test func `what members publish reaches record, tree and row`() {
    var cluster = cluster(member(0xab, ["http://a:1"]))
    var published = member(0xab, ["http://a:1"], name: "m1")
    published.clientURLs = ["http://a:2"]
    let request = V2Request.publish(published, id: 1)
    #expect(request.path == "/0/members/ab/attributes")
    #expect(request.value == #"{"name":"m1","clientURLs":["http://a:2"]}"#)
    let rows = cluster.apply(request)
    #expect(cluster.members == [published])
    #expect(rows.map { text($0.key) } == ["ab"])
    #expect(cluster.apply(.version(ClusterVersion(major: 3, minor: 5, patch: 0), id: 2)).count == 1)
    #expect(cluster.version?.text == "3.5.0")
    #expect(cluster.tree.currentIndex == 3)
  }

  @Test func `a request for a member that is gone or for other paths changes nothing`() {
    var cluster = cluster(member(1, ["http://a:1"]))
    let before = cluster.tree
    for path in ["/0/members/9/attributes", "/1/key", "/0/members/1", "/0/members/zz/attributes"] {
      let request = V2Request(id: 1, method: "PUT", path: path, value: "{}")
      #expect(cluster.apply(request).isEmpty)
    }
    #expect(cluster.apply(V2Request(id: 1, method: "SYNC", path: "", value: "")).isEmpty)
    #expect(cluster.tree == before)
  }
}

@Suite struct Trees {
  @Test func `a tree survives its snapshot, and a cluster is read back from it`() throws {
    var cluster = Cluster()
    var first = member(0xabc, ["http://a:1"], name: "")
    _ = cluster.apply(.add(first))
    _ = cluster.apply(.add(member(2, ["http://b:1"], isLearner: true)))
    _ = cluster.apply(.add(member(3, ["http://c:1"])))
    _ = cluster.apply(.remove(NodeID(3)))
    first.name = "é\"<"
    _ = cluster.apply(.publish(first, id: 1))
    _ = cluster.setVersion(ClusterVersion(major: 3, minor: 5, patch: 0))
    let tree = try V2Tree(snapshot: cluster.tree.snapshot)
    #expect(tree == cluster.tree)
    let back = try Cluster(tree: tree)
    #expect(back.members == cluster.members)
    #expect(back.removed == [NodeID(3)])
    #expect(back.version == cluster.version)
    #expect(back.rows == cluster.rows)
  }

  @Test func `a snapshot has the shape of etcd's`() {
    let snapshot = text(V2Tree().snapshot)
    #expect(
      snapshot.hasPrefix(
        #"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"#
          + #""ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"0":{"Path":"/0","#))
    #expect(snapshot.hasSuffix(#""watchers":0},"CurrentVersion":2}"#))
  }

  @Test func `what the tree holds beside membership is kept`() throws {
    var tree = V2Tree()
    try tree.set("/1/dir/key", value: "v")
    try tree.update("/1/dir/key", value: "w")
    let back = try V2Tree(snapshot: tree.snapshot)
    #expect(back.value(at: "/1/dir/key") == "w")
    #expect(back.names(at: "/1") == ["dir"])
    #expect(back.currentIndex == 2)
  }

  @Test func `operations are refused as the v2 store refuses them`() throws {
    var tree = V2Tree()
    try tree.create("/0/a", value: "1")
    #expect(throws: V2Tree.Refusal.nodeExists) { try tree.create("/0/a", value: "2") }
    #expect(throws: V2Tree.Refusal.notADirectory) { try tree.set("/0/a/b", value: "2") }
    #expect(throws: V2Tree.Refusal.notAFile) { try tree.set("/0", value: "2") }
    #expect(throws: V2Tree.Refusal.keyNotFound) { try tree.update("/0/b", value: "2") }
    #expect(throws: V2Tree.Refusal.keyNotFound) { try tree.remove("/0/b") }
    #expect(tree.currentIndex == 1)
  }
}
