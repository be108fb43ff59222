internal import Platform

/// What a thread that serves sockets waits with: an epoll instance that watches the thread's
/// mailbox and its listeners beside its connections, whose tokens are the thread's to choose.
struct Reactor: ~Copyable {
  enum Limits {
    /// Without descriptors or memory nobody is accepted for so long: the listeners stay ready and
    /// would spin the thread.
    static let pauseNanoseconds: UInt64 = 1_000_000_000
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
  /// What the last wait has found, but for mail.
  private(set) var events: [Poller.Event] = []

  static func open(_ wakeup: Wakeup, _ log: Logger) throws(Errno) -> Reactor {
    let poller = try Poller.open()
    try poller.add(wakeup.fd, .read, token: mailToken)
    return Reactor(poller: poller, wakeup: wakeup, log: log)
  }

  private init(poller: consuming Poller, wakeup: Wakeup, log: Logger) {
    self.poller = poller
    self.wakeup = wakeup
    self.log = log
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
    do throws(Errno) {
      return try Socket.accept(on: listeners[place].fd)
    } catch {
      log.warn(
        "a connection could not be accepted", ("listener", listeners[place].url),
        ("error", "\(error)"))
      resumesAt = Clock.monotonic() + Limits.pauseNanoseconds
      watchListeners([])
      return nil
    }
  }

  private func watchListeners(_ interest: Poller.Interest) {
    for (place, listener) in listeners.enumerated() {
      try? poller.change(listener.fd, interest, token: Self.listenerTokens + UInt64(place))
    }
  }
}
