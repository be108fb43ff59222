import Testing

@testable import Config

@Suite struct DefaultHostTests {
  func options(_ arguments: String..., host: String? = "10.1.2.3") throws -> Options {
    try Options(Settings(arguments: arguments, environment: [])) { host }
  }

  static let usual = "http://localhost:2379"

  @Test func `all addresses are advertised as the machine's own, with the port`() throws {
    let found = try options(
      "--listen-client-urls=http://0.0.0.0:79", "--advertise-client-urls", Self.usual,
      "--listen-peer-urls=http://0.0.0.0:80", "--name=m")
    #expect(found.advertiseClient.map(\.text) == ["http://10.1.2.3:79"])
    #expect(found.advertisePeer.map(\.text) == ["http://10.1.2.3:80"])
    #expect(
      found.initialCluster == [InitialMember(name: "m", peerURLs: ["http://10.1.2.3:80"])])
    #expect(found.notes.map(\.subject) == ["10.1.2.3"])
  }

  @Test func `a file need not name what is advertised`() throws {
    let settings = try Settings(arguments: ["--config-file=c"], environment: []) { _ in
      Array("listen-client-urls: http://0.0.0.0:79\n".utf8)
    }
    let found = try Options(settings) { "fd00::1" }
    #expect(found.advertiseClient.map(\.text) == ["http://[fd00::1]:79"])
    #expect(found.advertisePeer.map(\.text) == ["http://localhost:2380"])
  }

  @Test(arguments: [
    ["--listen-client-urls=http://127.0.0.1:79", "--advertise-client-urls", usual],
    ["--listen-client-urls=http://0.0.0.0:79", "--advertise-client-urls=http://127.0.0.1:2379"],
    ["--listen-client-urls=http://[::]:79", "--advertise-client-urls", usual],
    [],
  ])
  func `what is said stays, and nobody asks for the address`(arguments: [String]) throws {
    let found = try Options(Settings(arguments: arguments, environment: [])) {
      Issue.record("asked")
      return nil
    }
    let given = try Settings(arguments: arguments, environment: []).text("advertise-client-urls")
    #expect(found.advertiseClient.map(\.text) == [given])
  }

  @Test func `without a default route the default stays`() throws {
    let found = try options(
      "--listen-client-urls=http://0.0.0.0:79", "--advertise-client-urls", Self.usual, host: nil)
    #expect(found.advertiseClient.map(\.text) == [Self.usual])
    #expect(found.notes.map(\.message) == ["failed to detect default host"])
  }
}
