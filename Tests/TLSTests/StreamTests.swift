import Basics
import Testing

@testable import TLS

/// Two streams joined by arrays instead of sockets.
struct Pair {
  let server: TLSStream
  let client: TLSStream
  var fromServer: [UInt8] = []
  var fromClient: [UInt8] = []
  var buffer: [UInt8] = []

  init(
    server: TLSSettings, client: TLSSettings, host: String = "localhost",
    speaks: [ApplicationProtocol] = [.http2]
  ) throws {
    self.server = try TLSStream.server(try TLSContext.make(server, .server))
    self.client = try TLSStream.client(
      try TLSContext.make(client, .client), host: host, speaks: speaks)
  }

  /// Carries bytes in pieces of `size` until neither side has more; the clear text of each.
  mutating func exchange(
    pieces size: Int = 1 << 16
  ) throws -> (atServer: [UInt8], atClient: [UInt8]) {
    var atServer: [UInt8] = []
    var atClient: [UInt8] = []
    while true {
      server.takeOutput(into: &fromServer)
      client.takeOutput(into: &fromClient)
      if fromServer.isEmpty, fromClient.isEmpty { return (atServer, atClient) }
      atServer += try deliver(fromClient, to: server, size)
      atClient += try deliver(fromServer, to: client, size)
      fromClient.removeAll()
      fromServer.removeAll()
    }
  }

  private mutating func deliver(
    _ bytes: [UInt8], to stream: TLSStream, _ size: Int
  ) throws -> [UInt8] {
    var clear: [UInt8] = []
    var at = 0
    while at < bytes.count {
      let end = min(at + size, bytes.count)
      let count = try stream.receive(bytes.rawSpan.extracting(at..<end), into: &buffer)
      clear += buffer[..<count]
      at = end
    }
    return clear
  }
}

func send(_ bytes: [UInt8], _ stream: TLSStream) throws { try stream.send(bytes.rawSpan) }

@Suite(.serialized) struct StreamTests {
  static let authority: Authority = {
    do {
      let authority = try Authority()
      try authority.issue("server", commonName: "", names: "DNS:localhost,IP:127.0.0.1,IP:::1")
      try authority.issue("client", commonName: "patroni", names: "")
      try authority.issue("revoked", commonName: "patroni", names: "DNS:gone.example")
      try authority.issue("peer", commonName: "member", names: "DNS:m1.example,IP:10.0.0.1")
      try authority.revoke("revoked")
      return authority
    } catch {
      fatalError("openssl: \(error)")
    }
  }()

  func settings(_ name: String?, verifies: Bool = false) throws -> TLSSettings {
    var settings = TLSSettings()
    if let name {
      settings.certificate = try Self.authority.file(name + ".pem")
      settings.key = try Self.authority.file(name + ".key")
    }
    settings.verifies = verifies
    if verifies { settings.authorities = try Self.authority.file("ca.pem") }
    return settings
  }

  @Test(arguments: [1, 7, 1 << 16])
  func `bytes travel sealed in pieces of any size`(size: Int) throws {
    var pair = try Pair(
      server: settings("server"), client: settings(nil, verifies: true),
      speaks: [.http1, .http2])
    _ = try pair.exchange(pieces: size)
    #expect(pair.server.isOpen && pair.client.isOpen)
    #expect(pair.server.applicationProtocol == .http2)
    #expect(pair.client.applicationProtocol == .http2)
    let large = [UInt8](repeating: 7, count: size == 1 << 16 ? 1 << 20 : 40_000)
    try send(large, pair.server)
    try send([1, 2, 3], pair.client)
    let (atServer, atClient) = try pair.exchange(pieces: size)
    #expect(atServer == [1, 2, 3])
    #expect(atClient == large)
    #expect(pair.client.peerCertificate?.addresses == ["127.0.0.1", "::1"])
    #expect(pair.server.peerCertificate == nil)
  }

  @Test func `a closing side is heard`() throws {
    var pair = try Pair(server: settings("server"), client: settings(nil))
    _ = try pair.exchange()
    try send([9], pair.client)
    pair.client.close()
    #expect(try pair.exchange().atServer == [9])
    #expect(pair.server.hasEnded && !pair.client.hasEnded)
  }

  @Test func `plain text is told from TLS`() throws {
    let stream = try TLSStream.server(try TLSContext.make(settings("server"), .server))
    var buffer: [UInt8] = []
    let bytes = Array("GET / HTTP/1.1\r\n\r\n".utf8)
    #expect(throws: TLSError.plainText) {
      try stream.receive(bytes.rawSpan.extracting(0..<bytes.count), into: &buffer)
    }
  }

  @Test(arguments: [
    ([ApplicationProtocol](), [ApplicationProtocol.http2], ApplicationProtocol?.none, true),
    ([.http2, .http1], [.http1], .http1, true), ([.http2], [.http1], nil, false),
  ])
  func `the server chooses among what the client offers`(
    offered: [ApplicationProtocol], spoken: [ApplicationProtocol], chosen: ApplicationProtocol?,
    isOpen: Bool
  ) throws {
    var server = try settings("server")
    server.speaks = spoken
    var pair = try Pair(server: server, client: settings(nil), speaks: offered)
    if isOpen {
      _ = try pair.exchange()
    } else {
      #expect(throws: TLSError.self) { try pair.exchange() }
    }
    #expect(pair.server.isOpen == isOpen && pair.server.applicationProtocol == chosen)
  }

  // MARK: Certificates of the other side

  @Test func `a client certificate is demanded and known`() throws {
    var pair = try Pair(server: settings("server", verifies: true), client: settings("client"))
    _ = try pair.exchange()
    #expect(pair.server.peerCertificate?.commonName == "patroni")
    pair = try Pair(server: settings("server", verifies: true), client: settings(nil))
    #expect(throws: TLSError.self) { try pair.exchange() }
    #expect(!pair.server.isOpen)
  }

  @Test func `a certificate of another authority is refused`() throws {
    let other = try Authority()
    try other.issue("client", commonName: "patroni", names: "")
    var stranger = TLSSettings()
    stranger.certificate = try other.file("client.pem")
    stranger.key = try other.file("client.key")
    var pair = try Pair(server: settings("server", verifies: true), client: stranger)
    let error = #expect(throws: TLSError.self) { try pair.exchange() }
    guard case .refused = error else { Issue.record("\(String(describing: error))"); return }
  }

  @Test func `two authorities of one name are told apart by their keys`() throws {
    let other = try Authority()
    try other.issue("client", commonName: "patroni", names: "")
    var newcomer = TLSSettings()
    newcomer.certificate = try other.file("client.pem")
    newcomer.key = try other.file("client.key")
    var server = try settings("server", verifies: true)
    server.authorities += try other.file("ca.pem")
    for client in [newcomer, try settings("client")] {
      var pair = try Pair(server: server, client: client)
      _ = try pair.exchange()
      #expect(pair.server.isOpen)
    }
  }

  @Test(arguments: [("client", true), ("revoked", false)])
  func `a revoked client is refused`(name: String, isAccepted: Bool) throws {
    var server = try settings("server", verifies: true)
    server.revocations = try Self.authority.file("crl.pem")
    var pair = try Pair(server: server, client: settings(name))
    if isAccepted {
      _ = try pair.exchange()
    } else {
      let error = #expect(throws: TLSError.self) { try pair.exchange() }
      #expect(error?.text.contains("revoked") == true)
    }
    #expect(pair.server.isOpen == isAccepted)
  }

  @Test(arguments: [
    (["member"], [], true), (["other", "member"], [], true), (["other"], [], false),
    ([], ["m1.example"], true), ([], ["10.0.0.1"], true), ([], ["m2.example"], false),
  ])
  func `names that a certificate must have are checked`(
    commonNames: [String], hostnames: [String], isAccepted: Bool
  ) throws {
    var server = try settings("server", verifies: true)
    server.allowedCommonNames = commonNames
    server.allowedHostnames = hostnames
    var pair = try Pair(server: server, client: settings("peer"))
    if isAccepted {
      _ = try pair.exchange()
    } else {
      #expect(throws: TLSError.self) { try pair.exchange() }
    }
    #expect(pair.server.isOpen == isAccepted)
  }

  @Test(arguments: [
    ("localhost", true), ("127.0.0.1", true), ("::1", true), ("10.9.9.9", false),
    ("example.com", false),
  ])
  func `a caller checks the host it called`(host: String, isAccepted: Bool) throws {
    var pair = try Pair(
      server: settings("server"), client: settings(nil, verifies: true), host: host)
    if isAccepted {
      _ = try pair.exchange()
    } else {
      #expect(throws: TLSError.self) { try pair.exchange() }
    }
    #expect(pair.client.isOpen == isAccepted)
  }

  @Test func `an incoming peer's names are held against its address`() throws {
    let certificate = try Certificate(pem: Self.authority.file("peer.pem"))
    #expect(certificate.check(address: "10.0.0.1") == .accepted)
    #expect(certificate.check(address: "10.0.0.2") == .needsLookup(dnsNames: ["m1.example"]))
    func looked(_ names: [String], _ found: [String]) -> NameCheck {
      certificate.resolved(address: "10.0.0.2", names: names, addresses: found)
    }
    #expect(looked(["m1.example."], []) == .accepted)
    #expect(looked([], ["10.0.0.2"]) == .accepted)
    #expect(looked(["m2.example"], ["10.0.0.3"]) != .accepted)
    let plain = try Certificate(pem: Self.authority.file("client.pem"))
    #expect(plain.check(address: "10.0.0.2") == .accepted)
  }
}
