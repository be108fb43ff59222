internal import Basics
internal import Platform
internal import TLS

/// A connection whose handshake is through.
struct SecuredSocket: Sendable {
  let fd: Int32
  let role: Listener.Role
  let stream: TLSStream
  /// Clear text that came with the end of the handshake.
  var received: [UInt8]
  /// Ciphertext that the socket has not taken yet.
  var unsent: [UInt8]
}

enum GreeterInput: Sendable {
  case accepted(fd: Int32, listener: Int, loop: Int)
  case stop
}

/// Shakes hands with clients on a thread of its own: the costly part of TLS never waits in front
/// of an io loop's requests. What is secured goes to an io loop.
struct Greeter: ~Copyable {
  enum Limits {
    /// Handshakes at a time; further connections are closed.
    static let handshakesMax = 4096
    static let handshakeNanoseconds: UInt64 = 10_000_000_000
    static let sweepNanoseconds: UInt64 = 500_000_000
    static let readBytes = 16 << 10
  }

  /// How other threads reach it.
  struct Handle: Sendable {
    let box: Mailbox<GreeterInput>
    let wakeup: Wakeup
    init() throws(Errno) {
      wakeup = try Wakeup()
      box = Mailbox(limit: Limits.handshakesMax, wakeup: wakeup)
    }
  }

  private final class Guest {
    let socket: Socket
    let stream: TLSStream
    let listener: Int
    let loop: Int
    let since: UInt64
    var output: [UInt8] = []
    var interest = Poller.Interest.read

    init(
      _ socket: consuming Socket, _ stream: TLSStream, listener: Int, loop: Int, since: UInt64
    ) {
      self.socket = socket
      self.stream = stream
      self.listener = listener
      self.loop = loop
      self.since = since
    }
  }

  private static let wakeToken = UInt64.max
  private let shared: Shared
  private let handle: Handle
  private let listeners: [Listener]
  private var poller: Poller
  private var guests: [UInt64: Guest] = [:]
  private var nextToken: UInt64 = 0
  private var nextSweep: UInt64 = 0
  private var inbox: [GreeterInput] = []
  private var events: [Poller.Event] = []
  private var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
  private var clear: [UInt8] = []
  private var complaints = LogThrottle()
  private var isStopped = false

  static func open(
    _ shared: Shared, _ handle: Handle, _ listeners: [Listener]
  ) throws(Errno) -> Greeter {
    let poller = try Poller.open()
    try poller.add(handle.wakeup.fd, .read, token: wakeToken)
    return Greeter(shared: shared, handle: handle, listeners: listeners, poller: poller)
  }

  private init(
    shared: Shared, handle: Handle, listeners: [Listener], poller: consuming Poller
  ) {
    self.shared = shared
    self.handle = handle
    self.listeners = listeners
    self.poller = poller
  }

  consuming func run() {
    while !isStopped {
      events.removeAll(keepingCapacity: true)
      do throws(Errno) {
        let wait: Int32 = guests.isEmpty ? -1 : Int32(Limits.sweepNanoseconds / 1_000_000)
        try poller.wait(milliseconds: wait, into: &events)
      } catch {
        shared.log.fatal("epoll failed", ("error", "\(error)"))
      }
      takeMail()
      for event in events where event.token != Self.wakeToken {
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
    handle.wakeup.clear()
    handle.box.drain(into: &inbox)
    for input in inbox {
      switch input {
      case .accepted(let fd, let listener, let loop):
        greet(Socket.adopting(fd), listener: listener, loop: loop)
      case .stop:
        isStopped = true
      }
    }
  }

  private mutating func greet(_ socket: consuming Socket, listener: Int, loop: Int) {
    guard guests.count < Limits.handshakesMax,
      let context = listeners[listener].files?.contexts.server
    else { return }
    let fd = socket.fd
    nextToken += 1
    let token = nextToken
    let stream: TLSStream
    do throws(TLSError) {
      stream = try TLSStream.server(context)
    } catch {
      return shared.log.error("a TLS connection could not be made", ("error", error.text))
    }
    guard (try? poller.add(fd, .read, token: token)) != nil else { return }
    let guest = Guest(
      socket, stream, listener: listener, loop: loop, since: Clock.monotonic())
    guests[token] = guest
    serve(token, guest)
  }

  /// Goes on with a handshake as far as its bytes reach.
  private mutating func serve(_ token: UInt64, _ guest: Guest) {
    do throws(Errno) {
      guard try write(guest) else { return watch(token, guest) }
      guard let count = try guest.socket.read(into: &buffer) else {
        return watch(token, guest)
      }
      // A port that is only probed: not worth a word.
      guard count > 0 else { return drop(token, guest) }
      let bytes = buffer
      let clearCount: Int
      do throws(TLSError) {
        clearCount = try guest.stream.receive(
          bytes.rawSpan.extracting(0..<count), into: &clear)
      } catch {
        _ = try? write(guest)
        return reject(token, guest, error.text)
      }
      let isSent = try write(guest)
      if guest.stream.isOpen {
        handOver(token, guest, Array(clear[..<clearCount]))
      } else if !isSent {
        watch(token, guest)
      }
    } catch {
      drop(token, guest)
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
    try? poller.change(guest.socket.fd, interest, token: token)
  }

  private mutating func handOver(_ token: UInt64, _ guest: Guest, _ received: [UInt8]) {
    guests.removeValue(forKey: token)
    try? poller.remove(guest.socket.fd)
    let copy = guest.socket.duplicate()
    guard let copy else { return }
    shared.loops[guest.loop].box.post(
      .secured(
        SecuredSocket(
          fd: copy, role: listeners[guest.listener].role, stream: guest.stream, received: received,
          unsent: guest.output)))
  }

  // MARK: Those that fail

  private mutating func reject(_ token: UInt64, _ guest: Guest, _ why: String) {
    let listener = listeners[guest.listener]
    if let held = complaints.admit(Clock.monotonic()) {
      let certificate = guest.stream.peerCertificate
      shared.log.warn(
        "rejected connection on client endpoint",
        ("remote-addr", guest.socket.peerName), ("listener", listener.url),
        ("ip-addresses", certificate?.addresses.joined(separator: ",") ?? ""),
        ("dns-names", certificate?.dnsNames.joined(separator: ",") ?? ""), ("error", why),
        ("suppressed", String(held)))
    }
    drop(token, guest)
  }

  private mutating func drop(_ token: UInt64, _ guest: Guest) {
    guests.removeValue(forKey: token)
    try? poller.remove(guest.socket.fd)
  }

  private mutating func sweep(_ now: UInt64) {
    for (token, guest) in guests where now &- guest.since > Limits.handshakeNanoseconds {
      reject(token, guest, "TLS handshake timed out")
    }
  }
}

/// Lets so many lines a second through and counts the others.
struct LogThrottle {
  static let linesPerSecond = 5
  private var second: UInt64 = 0
  private var count = 0
  private var held = 0

  /// Nil: the line is not to be written; else how many were not since the last that was.
  mutating func admit(_ now: UInt64) -> Int? {
    if now / 1_000_000_000 != second {
      second = now / 1_000_000_000
      count = 0
    }
    count += 1
    guard count <= Self.linesPerSecond else {
      held += 1
      return nil
    }
    defer { held = 0 }
    return held
  }
}
