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
  }

  let token: UInt64
  private var socket: Socket?
  let fd: Int32
  /// Nil: in clear text.
  let stream: TLSStream?
  /// Ciphertext for the socket.
  private var sealed: [UInt8] = []
  /// Whether the certificate of who called has been held against the address it called from.
  var isKnown: Bool
  var role: Role
  /// Whether the connection has come about.
  var isOpen: Bool
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
  var parser: RequestParser
  /// The request in hand waits for its answer from elsewhere; the next ones wait behind it.
  var isAsking = false
  var keepsAlive = true

  // An inflow's and a client's.
  var answer = AnswerReader()
  var body: [UInt8] = []
  var appends: AppendReader?
  var messages: MessageReader?
  /// What a client waits for the answer to.
  var ask: Ask?
  let url: PeerURL?

  // An outflow's.
  var sentBytes: Counter?
  var writer = AppendWriter()

  init(
    token: UInt64, socket: consuming Socket, role: Role, url: PeerURL?, isOpen: Bool,
    stream: TLSStream?, now: UInt64
  ) {
    self.token = token
    self.stream = stream
    isKnown = stream == nil
    fd = socket.fd
    self.socket = consume socket
    self.role = role
    self.url = url
    self.isOpen = isOpen
    readAt = now
    wroteAt = now
    parser = RequestParser(bodyBytesMax: PeerLimits.frameBytes)
  }

  var waitingBytes: Int { output.count + sealed.count - sent + chunk.count }

  /// `host:port` of the other side, and the host alone.
  var peerName: String { socket?.peerName ?? "unknown" }
  var peerAddress: String { socket?.peerAddress ?? "" }

  /// The error that connecting has come to; nil when there is none.
  var failure: Errno? { socket?.failure }

  /// Why bytes cannot be read.
  enum Failure: Error {
    case socket(Errno)
    case tls(TLSError)

    var text: String {
      switch self {
      case .socket(let error): "\(error)"
      case .tls(let error): error.text
      }
    }
  }

  /// Clear text that has come: how much of `buffer` it is, 0 at the end, nil when there is none
  /// now. `raw` is for what TLS has to open first. TLS may have something to say after it.
  func read(into buffer: inout [UInt8], raw: inout [UInt8]) throws(Failure) -> Int? {
    guard socket != nil else { return 0 }
    guard let stream else { return try take(&buffer) }
    while true {
      guard let count = try take(&raw) else { return nil }
      guard count > 0 else { return 0 }
      let bytes = raw
      let clear: Int
      do throws(TLSError) {
        clear = try stream.receive(bytes.rawSpan.extracting(0..<count), into: &buffer)
      } catch {
        throw .tls(error)
      }
      if clear > 0 { return clear }
      if stream.hasEnded { return 0 }
    }
  }

  private func take(_ buffer: inout [UInt8]) throws(Failure) -> Int? {
    do throws(Errno) { return try socket!.read(into: &buffer) } catch { throw .socket(error) }
  }

  /// Gives the connection away: its descriptor, and what its socket has not taken yet.
  func release() -> (fd: Int32, stream: TLSStream?, unsent: [UInt8]) {
    (socket.take()!.release(), stream, Array(sealed.dropFirst(sent)))
  }

  /// Gives away what has come on it.
  func releaseParser() -> RequestParser {
    var taken = RequestParser(bodyBytesMax: 0)
    swap(&taken, &parser)
    return taken
  }

  /// Writes what the socket takes; false when the connection is broken.
  func write(now: UInt64) -> Bool {
    if !chunk.isEmpty {
      output.appendChunk(chunk.rawSpan)
      chunk.removeAll(keepingCapacity: chunk.capacity <= 1 << 20)
    }
    guard let stream else { return write(&output, now) }
    do throws(TLSError) {
      if stream.isOpen, !output.isEmpty {
        let bytes = output
        try stream.send(bytes.rawSpan)
        output.removeAll(keepingCapacity: output.capacity <= 4 << 20)
      }
    } catch {
      return false
    }
    if isEnding, output.isEmpty { stream.close() }
    stream.takeOutput(into: &sealed)
    return write(&sealed, now)
  }

  private func write(_ output: inout [UInt8], _ now: UInt64) -> Bool {
    while sent < output.count {
      let count: Int
      do throws(Errno) {
        guard socket != nil else { return false }
        let bytes = output
        count = try socket!.write(bytes.rawSpan.extracting(sent..<bytes.count))
      } catch {
        return false
      }
      if count == 0 { break }
      sentBytes?.add(count)
      wroteAt = now
      sent += count
    }
    if sent == output.count {
      output.removeAll(keepingCapacity: output.capacity <= 4 << 20)
      sent = 0
    } else if sent >= 4 << 20 {
      output.removeFirst(sent)
      sent = 0
    }
    return true
  }

  var isBlocked: Bool { sent < (stream == nil ? output.count : sealed.count) }

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

extension Link {
  /// Closes the connection, whoever still mentions it.
  func drop() {
    output = []
    sealed = []
    chunk = []
    body = []
    closeSocket()
  }
}
