internal import Basics
internal import HTTP1
internal import Peers
internal import Platform
internal import Raft
internal import TLS

/// One connection between members, the peer thread's. A class, because the poller's tokens, the
/// members and the thread all point at it.
final class Link {
  enum Role {
    /// The other side asks, this one answers.
    case server
    /// A stream to the other side: the body of the answer to its request.
    case outflow(NodeID, Channel)
    /// A stream from the other side, which this one asked for.
    case inflow(NodeID, Channel)
    /// This side's requests, one at a time.
    case client(NodeID)
  }

  enum Limits {
    /// Reads of one connection in one wake: others wait.
    static let readsPerWake = 16
    static let readBytes = 256 << 10
    /// What of output and of a message is kept allocated while nothing waits; beyond it what was
    /// written is dropped in between.
    static let keptBytes = 4 << 20
    static let keptChunkBytes = 1 << 20
    /// Clear text that is sealed at a time: about what a socket takes.
    static let sealBytes = 256 << 10
    /// Answers that wait to be written above which no more requests are served.
    static let answersBytes = 1 << 20
    /// Later requests that are taken while one waits for its answer from elsewhere.
    static let pipelinedBytes = 64 << 10
  }

  let token: UInt64
  private var socket: Socket?
  private(set) var fd: Int32
  /// Nil: in clear text.
  var sealing: Sealing?
  var role: Role
  /// Whether the connection has come about, its handshake too.
  var isOpen: Bool
  /// Its handshake is being made elsewhere.
  private(set) var isAway = false
  var interest = Poller.Interest.read
  var output: [UInt8] = []
  private var sent = 0
  /// What the stream will send as its next chunk.
  var chunk: [UInt8] = []
  var isDirty = false
  /// Closed once everything is written.
  var isEnding = false
  /// When bytes came last, and when they went last.
  var readAt: UInt64
  var wroteAt: UInt64

  // A server's.
  /// Nothing has come yet.
  var isFresh = true
  var parser: RequestParser
  /// The request in hand waits for its answer from elsewhere; the next ones wait behind it.
  var isAsking = false
  var keepsAlive = true
  /// Requests wait for the other side to read the answers before.
  var hasPausedRequests = false

  // An inflow's and a client's.
  var answer = AnswerReader()
  var body: [UInt8] = []
  var appends: AppendReader?
  var messages: MessageReader?
  /// What a client waits for the answer to.
  var ask: Ask?
  let url: PeerURL?
  /// Of the addresses of the URL's host the one that was dialled.
  var address = ""

  // An outflow's.
  var sentBytes: Counter?
  var writer = AppendWriter()

  init(
    token: UInt64, socket: consuming Socket, role: Role, url: PeerURL?, isOpen: Bool,
    now: UInt64
  ) {
    self.token = token
    fd = socket.fd
    self.socket = consume socket
    self.role = role
    self.url = url
    self.isOpen = isOpen
    readAt = now
    wroteAt = now
    parser = RequestParser(bodyBytesMax: PeerLimits.frameBytes)
  }

  /// Whether the next request may be served.
  var takesRequests: Bool { !isAsking && !isEnding && waitingBytes < Limits.answersBytes }

  /// Whether the other side's bytes are wanted: one that does not read its answers is not heard.
  var isReading: Bool {
    guard case .server = role else { return true }
    return takesRequests || isAsking && parser.bufferedBytes < Limits.pipelinedBytes
  }

  var waitingBytes: Int { output.count - sent + chunk.count + (sealing?.waitingBytes ?? 0) }

  /// For how long nothing need come. Who shakes hands gives up by itself.
  var patience: UInt64 {
    isAway ? .max : isOpen ? PeerLimits.readTimeout : PeerLimits.connectTimeout
  }

  /// `host:port` of the other side, and the host alone.
  var peerName: String { socket?.peerName ?? "unknown" }
  var peerAddress: String { socket?.peerAddress ?? "" }

  /// The error that connecting has come to; nil when there is none.
  var failure: Errno? { socket?.failure }

  /// Reads into `buffer`, up to its count; 0 at the end, nil when nothing waits.
  func read(into buffer: inout [UInt8]) throws(Errno) -> Int? {
    guard socket != nil else { return 0 }
    return try socket!.read(into: &buffer)
  }

  // MARK: Given away

  /// Gives the connection away with what its socket has not taken yet.
  func release() -> Courier.Incoming {
    Courier.Incoming(
      fd: socket.take()!.release(), stream: sealing?.stream, unsent: sealing?.unsent ?? [])
  }

  /// Gives the descriptor away for the handshake.
  func leave() -> Int32 {
    isAway = true
    return socket.take()!.release()
  }

  /// Takes the connection back once its handshake is through.
  func comeBack(_ socket: consuming Socket, now: UInt64) {
    isAway = false
    isOpen = true
    interest = .read
    readAt = now
    fd = socket.fd
    self.socket = consume socket
  }

  /// Gives away what has come on it.
  func releaseParser() -> RequestParser {
    var taken = RequestParser(bodyBytesMax: 0)
    swap(&taken, &parser)
    return taken
  }

  // MARK: Bytes out

  /// Writes what the socket takes; false when the connection is broken.
  func write(now: UInt64) -> Bool {
    if !chunk.isEmpty {
      output.appendChunk(chunk.rawSpan)
      chunk.removeAll(keepingCapacity: chunk.capacity <= Limits.keptChunkBytes)
    }
    guard sealing == nil ? writeClear(now) : writeSealed(now) else { return false }
    if sent == output.count {
      output.removeAll(keepingCapacity: output.capacity <= Limits.keptBytes)
      sent = 0
    } else if sent >= Limits.keptBytes {
      output.removeFirst(sent)
      sent = 0
    }
    return true
  }

  private func writeClear(_ now: UInt64) -> Bool {
    while sent < output.count {
      let count: Int
      do throws(Errno) {
        guard socket != nil else { return false }
        let bytes = output
        count = try socket!.write(bytes.rawSpan.extracting(sent..<bytes.count))
      } catch {
        return false
      }
      if count == 0 { return true }
      sentBytes?.add(count)
      wroteAt = now
      sent += count
    }
    return true
  }

  /// Seals only what the socket may take soon: what waits behind it stays in clear.
  private func writeSealed(_ now: UInt64) -> Bool {
    guard let sealing else { return false }
    while true {
      do {
        if sealing.waitingBytes == 0 {
          let end = min(output.count, sent + Limits.sealBytes)
          let bytes = output
          try sealing.seal(bytes.rawSpan.extracting(sent..<end))
          sentBytes?.add(end - sent)
          sent = end
          if isEnding, sent == output.count, sealing.close() { continue }
        }
        if sealing.waitingBytes == 0 { return true }
        guard socket != nil else { return false }
        if try sealing.write(to: socket!) == 0 { return true }
      } catch {
        return false
      }
      wroteAt = now
    }
  }

  var isBlocked: Bool { sent < output.count || (sealing?.waitingBytes ?? 0) > 0 }

  func closeSocket() { _ = socket.take() }
}

/// A request to a member and what its answer is for.
struct Ask {
  enum Purpose {
    case message(Message)
    case probe
    case version
    case forward(Waiting)
    /// The hash of the member's store, for the question of this number.
    case hash(UInt64)
  }

  var purpose: Purpose
  var request: PeerRequest
  var startedAt: UInt64
  /// When it is given up.
  var deadline: UInt64
}

extension Ask {
  var isMessage: Bool { if case .message = purpose { true } else { false } }
}

extension Link {
  /// Closes the connection, whoever still mentions it.
  func drop() {
    output = []
    sealing = nil
    chunk = []
    body = []
    closeSocket()
  }
}
