internal import CNGHTTP2

// What keeps a client from wearing the server out, and the orderly end of a connection.

extension Session {
  /// Counters of what a client may not do too often.
  struct Guards {
    /// The connection is to be closed once its GOAWAY is out.
    var isCondemned = false
    var resetsLeft = Limits.earlyResetsBurst
    var refilledAt: UInt64 = 0
    var lastPing: UInt64?
    var pingStrikes = 0
    /// HEADERS or DATA went out since the client's last ping.
    var hasSentSincePing = false
  }

  /// Asks the client for a sign of life.
  public func ping() {
    state.unansweredPings += 1
    unsafe nghttp2_submit_ping(session, 0, nil)
  }

  /// Tells the client to open no more streams, first softly and then, with `goAway`, for good
  /// (RFC 9113 §6.8).
  public func beginShutdown() { unsafe nghttp2_submit_shutdown_notice(session) }

  public func goAway() { unsafe submitGoAway(session, code: NGHTTP2_NO_ERROR.rawValue, text: "") }

  /// Ends a stream whose answer is given up (RFC 9113 §7, CANCEL).
  public func cancel(_ stream: Int32) {
    unsafe nghttp2_submit_rst_stream(session, 0, stream, NGHTTP2_CANCEL.rawValue)
  }
}

func submitGoAway(_ session: OpaquePointer?, code: UInt32, text: StaticString) {
  let last = unsafe nghttp2_session_get_last_proc_stream_id(session)
  unsafe nghttp2_submit_goaway(session, 0, last, code, text.utf8Start, text.utf8CodeUnitCount)
}

extension Session.State {
  /// The rules of grpc-go: a ping after an answer went out is always right (clients measure the
  /// bandwidth by it); else pings keep `pingIntervalMin`, and two hours while no stream is open.
  /// True: the client is to be told to go.
  mutating func pinged(isAnswer: Bool) -> Bool {
    if isAnswer {
      unansweredPings = 0
      return false
    }
    defer { guards.lastPing = now }
    if guards.hasSentSincePing {
      guards.hasSentSincePing = false
      guards.pingStrikes = 0
      return false
    }
    guard pingIntervalMin > 0, let last = guards.lastPing else { return false }
    let interval = openStreams == 0 ? Self.idlePingInterval : pingIntervalMin
    guard now &- last < interval else { return false }
    guards.pingStrikes += 1
    return guards.pingStrikes > Self.pingStrikesMax && condemn()
  }

  /// Notes the end of a stream. True: the client is to be told to go.
  mutating func closed(_ place: Session.StreamPlace, code: UInt32) -> Bool {
    let at = place.place
    queuedBytes -= streams[at].waiting
    openStreams -= 1
    let isEarly = !streams[at].isResponded && code != 0
    closedPlaces.append(at)
    events.append(.closed(place, code: code))
    return isEarly && countEarlyReset()
  }

  /// Notes a stream that was beyond the limit. True: the client is to be told to go.
  mutating func refused() -> Bool { countEarlyReset() }

  /// False: it was condemned before.
  private mutating func condemn() -> Bool {
    defer { guards.isCondemned = true }
    return !guards.isCondemned
  }

  private mutating func countEarlyReset() -> Bool {
    let step = 1_000_000_000 / Session.Limits.earlyResetsPerSecond
    let earned = (now &- guards.refilledAt) / step
    if earned > 0 {
      guards.resetsLeft = min(
        Session.Limits.earlyResetsBurst, guards.resetsLeft + Int(clamping: min(earned, 1 << 20)))
      guards.refilledAt = now
    }
    guards.resetsLeft -= 1
    return guards.resetsLeft < 0 && condemn()
  }

  /// Pings forgiven before the client is told to go (grpc-go: maxPingStrikes).
  private static let pingStrikesMax = 2
  /// The least time between pings while no stream is open (grpc-go: defaultPingTimeout).
  private static let idlePingInterval: UInt64 = 2 * 3600 * 1_000_000_000
}
