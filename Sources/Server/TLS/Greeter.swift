internal import Basics
internal import Platform
internal import TLS

enum GreeterInput: Sendable {
  /// A connection that came by a listener, and whose it will be.
  case accepted(fd: Int32, listener: Int, Greeter.Owner)
  /// A connection to another member.
  case dialled(fd: Int32, token: UInt64, host: String)
  /// What DNS says of a certificate's names: why it does not speak for its address.
  case looked(token: UInt64, refusal: String?)
}

/// Shakes hands on a thread of its own: the costly part of TLS never waits in front of an io
/// loop's requests or of a heartbeat, whoever called. What is secured goes to an io loop or to the
/// peer thread.
struct Greeter: ~Copyable {
  /// Whose handshakes: either has a thread of its own, so that neither waits for the other.
  enum Side: String { case client, peer }

  /// Whose a connection is once it is secured.
  enum Owner: Sendable {
    case loop(Int, Listener.Role)
    /// The peer thread's; the token is that of a connection it has dialled.
    case peers(token: UInt64?)
  }

  enum Limits {
    static let handshakeNanoseconds: UInt64 = 10_000_000_000
    static let sweepNanoseconds: UInt64 = 500_000_000
    static let readBytes = 16 << 10
    /// Certificates whose names wait for DNS, each on a thread.
    static let lookupsMax = 16
    /// Handshakes at a time with those who call; further connections are closed. A member's key of
    /// 4096 bits takes some milliseconds, and the last in the row must be through before it is
    /// given up.
    static func handshakesMax(_ side: Side) -> Int { side == .client ? 4096 : 256 }
    /// The same with those of one address.
    static func handshakesOfOneMax(_ side: Side) -> Int { side == .client ? 4096 : 64 }
  }

  struct Settings: Sendable {
    var side: Side
    var listeners: [Listener]
    /// For calls to members whose URLs are https.
    var dials: TLSFiles?
    /// Names in certificates are held against the addresses that they come from.
    var checksNames = false
  }

  /// How other threads reach it.
  struct Handle: Sendable {
    fileprivate let box: Mailbox<GreeterInput>
    fileprivate let wakeup: Wakeup

    init(_ side: Side) throws(Errno) {
      wakeup = try Wakeup()
      box = Mailbox(limit: Limits.handshakesMax(side), wakeup: wakeup)
    }

    /// Takes a connection over that came by a listener, or closes it when there are too many.
    func greet(_ socket: consuming Socket, from listener: Int, for owner: Owner) {
      let fd = socket.release()
      guard !box.offer(.accepted(fd: fd, listener: listener, owner)) else { return }
      _ = Socket.adopting(fd)
    }

    /// Takes a connection over that the peer thread has dialled, which is told what comes of it.
    func greet(_ fd: Int32, dialled token: UInt64, host: String) {
      box.post(.dialled(fd: fd, token: token, host: host))
    }
  }

  private final class Guest {
    let socket: Socket
    let stream: TLSStream
    let owner: Owner
    /// The listener that it came by; nil when it was dialled.
    let listener: Listener?
    let since: UInt64
    let address: String
    var output: [UInt8] = []
    /// Clear text that came with the end of the handshake.
    var received: [UInt8] = []
    var interest = Poller.Interest.read

    init(
      _ socket: consuming Socket, _ stream: TLSStream, _ owner: Owner, _ listener: Listener?
    ) {
      address = socket.peerAddress
      self.socket = socket
      self.stream = stream
      self.owner = owner
      self.listener = listener
      since = Clock.monotonic()
    }
  }

  private let shared: Shared
  private let handle: Handle
  private let settings: Settings
  private var reactor: Reactor
  private var guests: [UInt64: Guest] = [:]
  /// How many of those who called are there from each address, and in all.
  private var callers: [String: Int] = [:]
  private var callerCount = 0
  private var lookups = 0
  private var nextToken: UInt64 = 0
  private var nextSweep: UInt64 = 0
  private var inbox: [GreeterInput] = []
  private var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
  private var clear: [UInt8] = []
  private var complaints: LogThrottle

  static func open(
    _ shared: Shared, _ handle: Handle, _ settings: Settings
  ) throws(Errno) -> Greeter {
    Greeter(
      shared: shared, handle: handle, settings: settings,
      reactor: try Reactor.open(handle.wakeup, shared.log, descriptorsLeft: 0))
  }

  private init(
    shared: Shared, handle: Handle, settings: Settings, reactor: consuming Reactor
  ) {
    self.shared = shared
    self.handle = handle
    self.settings = settings
    self.reactor = reactor
    complaints = settings.side == .client ? .clients : .members
  }

  consuming func run() {
    while true {
      _ = reactor.wait(until: guests.isEmpty ? nil : nextSweep)
      takeMail()
      for event in reactor.events {
        guard let guest = guests[event.token] else { continue }
        serve(event.token, guest)
      }
      let now = Clock.monotonic()
      if now >= nextSweep {
        nextSweep = now + Limits.sweepNanoseconds
        sweep(now)
      }
    }
  }

  private mutating func takeMail() {
    handle.box.drain(into: &inbox)
    for input in inbox {
      switch input {
      case .accepted(let fd, let listener, let owner):
        greet(Socket.adopting(fd), settings.listeners[listener], owner)
      case .dialled(let fd, let token, let host):
        dialled(Socket.adopting(fd), token, host)
      case .looked(let token, let refusal):
        lookups -= 1
        guard let guest = guests[token] else { continue }
        if let refusal { reject(token, guest, refusal) } else { handOver(token, guest) }
      }
    }
  }

  // MARK: Handshakes

  private mutating func greet(
    _ socket: consuming Socket, _ listener: Listener, _ owner: Owner
  ) {
    guard let context = listener.files?.contexts.server else { return }
    let stream: TLSStream
    do throws(TLSError) {
      stream = try TLSStream.server(context)
    } catch {
      return shared.log.error("a TLS connection could not be made", ("error", error.text))
    }
    let guest = Guest(socket, stream, owner, listener)
    let count = callers[guest.address] ?? 0
    guard callerCount < Limits.handshakesMax(settings.side),
      count < Limits.handshakesOfOneMax(settings.side)
    else { return complain(guest, "too many TLS handshakes at a time") }
    callers[guest.address] = count + 1
    callerCount += 1
    begin(guest)
  }

  private mutating func dialled(_ socket: consuming Socket, _ token: UInt64, _ host: String) {
    let stream: TLSStream
    do throws(TLSError) {
      guard let context = settings.dials?.contexts.client else {
        throw .settings("there is nothing to call with")
      }
      stream = try TLSStream.client(context, host: host, speaks: [.http1])
    } catch {
      return shared.peers.box.post(.unsecured(token: token, error.text))
    }
    begin(Guest(socket, stream, .peers(token: token), nil))
  }

  private mutating func begin(_ guest: Guest) {
    nextToken += 1
    let token = nextToken
    guests[token] = guest
    do throws(Errno) {
      try reactor.poller.add(guest.socket.fd, .read, token: token)
      serve(token, guest)
    } catch {
      drop(token, guest, "\(error)")
    }
  }

  /// Goes on with a handshake as far as its bytes reach.
  private mutating func serve(_ token: UInt64, _ guest: Guest) {
    do throws(Errno) {
      guard try write(guest) else { return watch(token, guest) }
      guard let count = try guest.socket.read(into: &buffer) else {
        return watch(token, guest)
      }
      // A port that is only probed: not worth a word.
      guard count > 0 else { return drop(token, guest, "closed by the other side") }
      let bytes = buffer
      do throws(TLSError) {
        let clearCount = try guest.stream.receive(
          bytes.rawSpan.extracting(0..<count), into: &clear)
        guest.received = Array(clear[..<clearCount])
      } catch {
        _ = try? write(guest)
        return reject(token, guest, error.text)
      }
      let isSent = try write(guest)
      if guest.stream.isOpen {
        identify(token, guest)
      } else if !isSent {
        watch(token, guest)
      }
    } catch {
      drop(token, guest, "\(error)")
    }
  }

  /// Whether the socket has taken all there is.
  private func write(_ guest: Guest) throws(Errno) -> Bool {
    guest.stream.takeOutput(into: &guest.output)
    while !guest.output.isEmpty {
      let bytes = guest.output
      let count = try guest.socket.write(bytes.rawSpan)
      if count == 0 { return false }
      guest.output.removeFirst(count)
    }
    return true
  }

  private func watch(_ token: UInt64, _ guest: Guest) {
    let interest: Poller.Interest = guest.output.isEmpty ? .read : [.read, .write]
    guard interest != guest.interest else { return }
    guest.interest = interest
    try? reactor.poller.change(guest.socket.fd, interest, token: token)
  }

  /// Holds the certificate of who has called against the address it called from.
  /// etcd: `checkCertSAN`.
  private mutating func identify(_ token: UInt64, _ guest: Guest) {
    // A socket with a path has no address.
    guard settings.checksNames, guest.listener != nil, !guest.address.isEmpty,
      let certificate = guest.stream.peerCertificate
    else { return handOver(token, guest) }
    switch certificate.check(address: guest.address) {
    case .accepted: handOver(token, guest)
    case .refused(let why): reject(token, guest, "certificate refused: \(why)")
    case .needsLookup(let names):
      guard lookups < Limits.lookupsMax else {
        return reject(token, guest, "too many names wait for DNS")
      }
      lookups += 1
      // Hung up or not: it waits for the answer.
      try? reactor.poller.remove(guest.socket.fd)
      look(up: names, certificate, guest.address, token)
    }
  }

  private func look(
    up names: [String], _ certificate: Certificate, _ address: String, _ token: UInt64
  ) {
    let box = handle.box
    Thread.detach("resolve") {
      let own = Socket.name(of: address).map { [$0] } ?? []
      var verdict = certificate.resolved(address: address, names: own, addresses: [])
      for name in names where verdict != .accepted {
        let found = (try? Socket.addresses(of: name)) ?? []
        verdict = certificate.resolved(address: address, names: own, addresses: found)
      }
      var refusal: String?
      if case .refused(let why) = verdict { refusal = "certificate refused: \(why)" }
      box.post(.looked(token: token, refusal: refusal))
    }
  }

  private mutating func handOver(_ token: UInt64, _ guest: Guest) {
    guard let copy = guest.socket.duplicate() else {
      return drop(token, guest, "no descriptor is free")
    }
    forget(token, guest)
    let secured = SecuredSocket(
      fd: copy, stream: guest.stream, received: guest.received, unsent: guest.output)
    switch guest.owner {
    case .loop(let loop, let role): shared.loops[loop].box.post(.secured(secured, role))
    case .peers(let token): shared.peers.box.post(.secured(secured, token: token))
    }
  }

  // MARK: Those that fail

  private mutating func reject(_ token: UInt64, _ guest: Guest, _ why: String) {
    complain(guest, why)
    drop(token, guest, why)
  }

  /// Of who has called; for one that was dialled the peer thread finds the words.
  private mutating func complain(_ guest: Guest, _ why: String) {
    guard let listener = guest.listener,
      let held = complaints.admit(guest.address, why, Clock.monotonic())
    else { return }
    let certificate = guest.stream.peerCertificate
    shared.log.warn(
      "rejected connection on \(settings.side.rawValue) endpoint",
      ("remote-addr", guest.socket.peerName), ("listener", listener.url),
      ("ip-addresses", certificate?.addresses.joined(separator: ",") ?? ""),
      ("dns-names", certificate?.dnsNames.joined(separator: ",") ?? ""), ("error", why),
      ("suppressed", String(held)))
  }

  private mutating func drop(_ token: UInt64, _ guest: Guest, _ why: String) {
    forget(token, guest)
    if case .peers(let token?) = guest.owner {
      shared.peers.box.post(.unsecured(token: token, why))
    }
  }

  private mutating func forget(_ token: UInt64, _ guest: Guest) {
    guests.removeValue(forKey: token)
    try? reactor.poller.remove(guest.socket.fd)
    guard guest.listener != nil else { return }
    callerCount -= 1
    let count = (callers[guest.address] ?? 1) - 1
    callers[guest.address] = count == 0 ? nil : count
  }

  private mutating func sweep(_ now: UInt64) {
    for (token, guest) in guests where now &- guest.since > Limits.handshakeNanoseconds {
      reject(token, guest, "TLS handshake timed out")
    }
  }
}

/// Whether bytes in clear text begin with a TLS handshake (RFC 8446 §5.1).
func isTLSHandshake(_ start: RawSpan) -> Bool {
  start.byteCount >= 2 && start[0] == 22 && start[1] == 3
}
