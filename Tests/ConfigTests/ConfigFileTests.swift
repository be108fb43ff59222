import Testing

@testable import Config

@Suite struct ConfigFileTests {
  func settings(
    _ text: String, arguments: [String] = [], environment: [(name: String, value: String)] = []
  ) throws -> Settings {
    try Settings(
      arguments: ["--config-file=c.yml"] + arguments, environment: environment
    ) { path throws(ConfigError) in
      guard path == "c.yml" else { throw ConfigError("open \(path)") }
      return Array(text.utf8)
    }
  }

  @Test func `a file as operators write them is read`() throws {
    let text = """
      name: 'node1'
      data-dir: /var/lib/etcd
      initial-cluster-token: PostgreSQL_HA_Cluster_1
      initial-cluster-state: new
      initial-cluster: node1=https://10.0.100.1:2380,node2=https://10.0.100.2:2380
      initial-advertise-peer-urls: https://10.0.100.1:2380
      listen-peer-urls: https://10.0.100.1:2380
      listen-client-urls: https://10.0.100.1:2379,https://127.0.0.1:2379
      advertise-client-urls: https://10.0.100.1:2379
      quota-backend-bytes: 17179869184
      auto-compaction-mode: periodic
      auto-compaction-retention: "24h"
      snapshot-count: 10000
      grpc-keepalive-min-time: 7000000000
      log-outputs: [stderr]
      client-transport-security:
        cert-file: /etc/etcd/server.crt
        key-file: /etc/etcd/server.key
        client-cert-auth: yes
        trusted-ca-file: /etc/etcd/ca.crt
      peer-transport-security:
        cert-file: /etc/etcd/peer.crt
        key-file: /etc/etcd/peer.key
        allowed-cn: [node1, node2]
        auto-tls: false
      socket-options: {reuse-port: true}
      nonsense: 1
      """
    let found = try Options(settings(text))
    #expect(found.name == "node1")
    #expect(found.listenClient.count == 2)
    #expect(found.quotaBytes == 17_179_869_184)
    #expect(found.compaction == .periodic(nanoseconds: 24 * 3_600_000_000_000))
    #expect(found.keepaliveMinNanoseconds == 7_000_000_000)
    #expect(found.clientTLS.clientCertAuth)
    #expect(found.clientTLS.trustedCAFile == "/etc/etcd/ca.crt")
    #expect(found.peerTLS.certificateFile == "/etc/etcd/peer.crt")
    #expect(found.peerTLS.allowedCommonNames == ["node1", "node2"])
    #expect(found.reusesPort)
    #expect(found.notes.map(\.subject) == ["nonsense"])
  }

  @Test func `a file stands alone`() throws {
    let found = try settings(
      "name: a\n", arguments: ["--snapshot-count=7"],
      environment: [(name: "ETCD_MAX_WALS", value: "3")])
    #expect(found.text("name") == "a")
    #expect(found.number("snapshot-count") == 100_000)
    #expect(found.number("max-wals") == 5)
    #expect(found.notes.map(\.subject) == ["--snapshot-count"])
    let byVariable = try Settings(
      arguments: [], environment: [(name: "ETCD_CONFIG_FILE", value: "d.yml")]
    ) { path throws(ConfigError) in Array("name: \(path.prefix(1))\n".utf8) }
    #expect(byVariable.text("name") == "d")
  }

  @Test func `listening elsewhere leaves what is advertised`() throws {
    let found = try Options(settings("name: m1\nlisten-client-urls: http://0.0.0.0:2379\n"))
    #expect(found.advertiseClient.map(\.text) == ["http://localhost:2379"])
    #expect(found.initialCluster.map(\.name) == ["m1"])
  }

  @Test(arguments: [
    ("name: [a\n", "c.yml: line 2: did not find expected ',' or ']'"),
    ("snapshot-count: abc\n", "c.yml: unexpected error setting up snapshot-count: parse error"),
    ("listen-client-urls: foo\n", "unexpected error setting up listen-client-urls: URL scheme"),
    ("client-transport-security:\n  client-cert-auth: maybe\n", "client-cert-auth: \"maybe\" is"),
    ("client-transport-security: on\n", "must hold keys and values"),
    ("initial-cluster-state: foo\n", "initial-cluster-state: invalid value"),
    ("name: {a: b}\n", "name: keys and values do not fit here"),
    ("name: [a]\n", "name: a list does not fit here"),
    ("- a\n", "the file must hold keys and values"),
  ])
  func `what does not fit is refused by name`(text: String, message: String) {
    let error = #expect(throws: ConfigError.self) { try Options(settings(text)) }
    #expect(error?.text.contains(message) == true, "\(String(describing: error))")
    #expect(error?.exitStatus == 1)
  }
}
