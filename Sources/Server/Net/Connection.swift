internal import Basics
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Services

/// One client's connection, one io thread's: the socket, what speaks on it, and what waits to be
/// written. A class, because calls and the poller both point at it.
final class Connection {
  enum Limits {
    /// Bytes waiting for the socket above which no more are taken from the session, and no more
    /// requests of HTTP/1.1 are read.
    static let outputBytes = 1 << 20
    /// Bytes in the send queues of a connection's streams above which it gets no new calls.
    static let queuedBytes = 64 << 20
    /// The same above which its reads wait until half of them are sent.
    static let crowdedBytes = 16 << 20
    /// Answers that wait in a session above which no requests are read while output waits.
    static let queuedFrames = 1000
    /// Bytes of messages that have not come whole yet, of all streams of a connection.
    static let heldBytes = 32 << 20
    /// Bytes of later requests of HTTP/1.1 that are taken while one is being served.
    static let pipelinedBytes = 64 << 10
    /// Output that is kept allocated while nothing waits.
    static let keptBytes = 256 << 10
    /// Reads of one connection in one wake: others wait.
    static let readsPerWake = 8
  }

  enum Speaker {
    /// Too few bytes to know yet.
    case unknown([UInt8])
    case http2(Session)
    case http1
  }

  /// How far a connection is on its way to its end.
  enum Ending {
    case none
    /// What waits is written, nothing more is read.
    case writing
    /// All is written and the client knows; what it still sends is read and thrown away, since
    /// closing at once would destroy what it has not read yet.
    case lingering
  }

  /// What `write` came to.
  enum Progress {
    case broken
    /// The socket takes no more now.
    case blocked
    case done
  }

  let token: UInt64
  let socket: Socket
  /// What the listener that accepted it serves.
  let role: Listener.Role
  /// Nil: in clear text.
  let sealing: Sealing?
  let openedAt: UInt64
  var speaker = Speaker.unknown([])
  var parser: RequestParser
  /// Bytes of messages that have not come whole yet, of all calls.
  var heldBytes = 0
  var output: [UInt8] = []
  var sent = 0
  var interest = Poller.Interest.read
  var isDirty = false
  /// The request of HTTP/1.1 that is being served.
  var call: CallID?
  /// What reads the messages of a connection that has become a websocket.
  var webSocket: WebSocketReader?
  /// Bytes of HTTP/1.1 requests that are counted in the loop's total.
  var countedBytes = 0
  /// A stream of HTTP/1.1 was told to send no more for now.
  var isCongested = false
  /// Too many answers wait in the send queues of HTTP/2: its reads wait.
  var isCrowded = false
  /// Requests of HTTP/1.1 wait for the one before, or for their client to read the answers.
  var hasPausedRequests = false
  var ending = Ending.none
  /// When an ending connection is closed whatever it does.
  var endsBy = UInt64.max
  /// The last time that bytes moved, in either direction.
  var lastActive: UInt64
  /// When the request that is not whole yet began to come (HTTP/1.1).
  var requestSince: UInt64?
  var pingedAt: UInt64 = 0

  init(
    token: UInt64, socket: consuming Socket, role: Listener.Role, sealing: Sealing?, now: UInt64,
    bodyBytesMax: Int
  ) {
    self.token = token
    self.role = role
    self.socket = socket
    self.sealing = sealing
    parser = RequestParser(bodyBytesMax: bodyBytesMax)
    openedAt = now
    lastActive = now
  }

  var waitingBytes: Int { output.count - sent + (sealing?.waitingBytes ?? 0) }

  /// Closed once everything is written.
  func end() {
    if case .none = ending { ending = .writing }
  }

  /// Whether the client's bytes are wanted.
  var isReading: Bool {
    switch ending {
    case .writing: return false
    case .lingering: return true
    case .none: break
    }
    switch speaker {
    case .unknown: return true
    case .http1:
      return takesRequests
        || call != nil && waitingBytes < Limits.outputBytes
          && parser.bufferedBytes < Limits.pipelinedBytes
    case .http2(let session):
      // The second for what only TLS has to say.
      return waitingBytes < Limits.outputBytes
        || session.queuedFrames <= Limits.queuedFrames && waitingBytes < 4 * Limits.outputBytes
    }
  }

  /// Whether the next request of HTTP/1.1, or the next piece of its body, may be served.
  var takesRequests: Bool {
    guard case .none = ending, call == nil || parser.isStreaming else { return false }
    return waitingBytes < Limits.outputBytes
  }

  /// Writes what the socket takes.
  func write(_ metrics: Metrics, now: UInt64) -> Progress {
    if let sealing { return writeSealed(sealing, metrics, now: now) }
    while true {
      dropSent()
      if case .http2(let session) = speaker, waitingBytes < Limits.outputBytes {
        session.output(into: &output, limit: output.count + Limits.outputBytes)
      }
      guard waitingBytes > 0 else { break }
      let count: Int
      do throws(Errno) {
        let bytes = output
        count = try socket.write(bytes.rawSpan.extracting(sent..<bytes.count))
      } catch {
        return .broken
      }
      if count == 0 { return .blocked }
      metrics.sentBytes.add(count)
      lastActive = now
      sent += count
    }
    if case .http2(let session) = speaker, session.isFinished { end() }
    return .done
  }

  private func dropSent() {
    if waitingBytes == 0 {
      output.removeAll(keepingCapacity: output.capacity <= Limits.keptBytes)
    } else if sent >= waitingBytes {
      output.removeFirst(sent)
    } else {
      return
    }
    sent = 0
  }
}
