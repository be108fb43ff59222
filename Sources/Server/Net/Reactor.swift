internal import Platform

/// What a thread that serves sockets waits with: an epoll instance that watches the thread's
/// mailbox and its listeners beside its connections, whose tokens are the thread's to choose.
struct Reactor: ~Copyable {
  enum Limits {
    /// Without descriptors or memory nobody is accepted for so long: the listeners stay ready and
    /// would spin the thread.
    static let pauseNanoseconds: UInt64 = 1_000_000_000
    /// Between two lines on that.
    static let toldNanoseconds: UInt64 = 60_000_000_000
    /// Descriptors that clients do not get, a quarter of few: the server's files and the other
    /// members need some. etcd: `reservedInternalFDNum`.
    static let descriptorsLeft = 150
    /// Connections that a listener gives in one wake: others wait.
    static let acceptsPerWake = 64
  }

  private static let mailToken = UInt64.max
  private static let listenerTokens: UInt64 = 1 << 62

  private(set) var poller: Poller
  private let wakeup: Wakeup
  private let log: Logger
  private(set) var listeners: [Listener] = []
  /// When accepting goes on; nil while it does.
  private var resumesAt: UInt64?
  private var toldAt: UInt64?
  private let descriptorsLeft: Int
  /// The descriptor that came last. The system gives the lowest that is free.
  private var lastDescriptor: Int32 = 0
  /// What the last wait has found, but for mail.
  private(set) var events: [Poller.Event] = []

  /// `descriptorsLeft`: how many no connection that is accepted may take.
  static func open(
    _ wakeup: Wakeup, _ log: Logger, descriptorsLeft: Int
  ) throws(Errno) -> Reactor {
    let poller = try Poller.open()
    try poller.add(wakeup.fd, .read, token: mailToken)
    return Reactor(poller: poller, wakeup: wakeup, log: log, descriptorsLeft: descriptorsLeft)
  }

  private init(
    poller: consuming Poller, wakeup: Wakeup, log: Logger, descriptorsLeft: Int
  ) {
    self.poller = poller
    self.wakeup = wakeup
    self.log = log
    self.descriptorsLeft = descriptorsLeft
  }

  /// Waits until something is ready or there is mail, or until `deadline` (monotonic ns, nil: for
  /// ever); the time then. The mailbox is to be drained after it.
  mutating func wait(until deadline: UInt64?) -> UInt64 {
    var milliseconds: Int32 = -1
    if let deadline {
      let now = Clock.monotonic()
      milliseconds = deadline > now ? Int32(clamping: (deadline - now) / 1_000_000 + 1) : 0
    }
    events.removeAll(keepingCapacity: true)
    do throws(Errno) {
      try poller.wait(milliseconds: milliseconds, into: &events)
    } catch {
      log.fatal("epoll failed", ("error", "\(error)"))
    }
    if let mail = events.firstIndex(where: { $0.token == Self.mailToken }) {
      wakeup.clear()
      events.remove(at: mail)
    }
    let now = Clock.monotonic()
    if let time = resumesAt, now >= time {
      resumesAt = nil
      watchListeners(.read)
    }
    return now
  }

  // MARK: Listeners

  /// Watches these too.
  mutating func listen(on more: [Listener]) throws(Errno) {
    for listener in more {
      try poller.add(
        listener.fd, .read, token: Self.listenerTokens + UInt64(listeners.count))
      listeners.append(listener)
    }
  }

  /// Accepts nobody from now on; the listeners stay bound.
  mutating func stopListening() {
    for listener in listeners { try? poller.remove(listener.fd) }
    resumesAt = nil
  }

  /// The place of the listener that an event is about; nil for a connection's.
  func listener(of event: Poller.Event) -> Int? {
    event.token >= Self.listenerTokens ? Int(event.token - Self.listenerTokens) : nil
  }

  /// The next connection that waits on a listener; nil when there is none that can be taken now.
  mutating func accept(_ place: Int) -> Socket? {
    guard resumesAt == nil else { return nil }
    do throws(Errno) {
      guard hasDescriptor(listeners[place].fd) else { throw .tooManyFiles }
      guard let socket = try Socket.accept(on: listeners[place].fd) else { return nil }
      lastDescriptor = socket.fd
      return socket
    } catch {
      let now = Clock.monotonic()
      if now >= toldAt.map({ $0 + Limits.toldNanoseconds }) ?? 0 {
        toldAt = now
        log.warn(
          "connections could not be accepted; they wait until there is room",
          ("listener", listeners[place].url), ("error", "\(error)"))
      }
      resumesAt = now + Limits.pauseNanoseconds
      watchListeners([])
      return nil
    }
  }

  private mutating func hasDescriptor(_ fd: Int32) -> Bool {
    guard descriptorsLeft > 0 else { return true }
    let max = Process.descriptorLimit
    let most = max - min(descriptorsLeft, max / 4)
    guard Int(lastDescriptor) >= most - 1 else { return true }
    lastDescriptor = Process.nextDescriptor(like: fd) ?? .max
    return Int(lastDescriptor) < most
  }

  private func watchListeners(_ interest: Poller.Interest) {
    for (place, listener) in listeners.enumerated() {
      try? poller.change(listener.fd, interest, token: Self.listenerTokens + UInt64(place))
    }
  }
}
