internal import Basics
internal import Peers
internal import Platform
internal import TLS

/// One connection that its thread waits on: what is done once, at a start, or takes long, such as
/// a snapshot. A step that moves nothing for `patience` is an error.
struct Exchange: ~Copyable {
  enum Failure: Error {
    case socket(Errno)
    case tls(TLSError)
    case wire(WireError)
    case timedOut
    case closed
    /// A URL that cannot be dialled.
    case unsupported
    case refused(PeerVerdict)

    var text: String {
      switch self {
      case .socket(let error): "\(error)"
      case .tls(let error): error.text
      case .wire(let error): "\(error)"
      case .timedOut: "timed out"
      case .closed: "closed by the other side"
      case .refused(let verdict): "\(verdict)"
      case .unsupported: "not a URL that can be dialled here"
      }
    }
  }

  private let socket: Socket
  private let stream: TLSStream?
  /// Ciphertext for the socket.
  private var sealed: [UInt8]
  private var poller: Poller
  /// Nanoseconds.
  var patience: UInt64
  private var buffer = [UInt8](repeating: 0, count: Link.Limits.readBytes)
  private var raw: [UInt8] = []
  private var events: [Poller.Event] = []

  /// Takes over a connection, with TLS' handshake behind it.
  init(adopting incoming: Courier.Incoming, patience: UInt64) throws(Failure) {
    try self.init(Socket.adopting(incoming.fd), incoming.stream, patience)
    sealed = incoming.unsent
  }

  private init(
    _ socket: consuming Socket, _ stream: TLSStream?, _ patience: UInt64
  ) throws(Failure) {
    self.stream = stream
    sealed = []
    if stream != nil { raw = [UInt8](repeating: 0, count: Link.Limits.readBytes) }
    do throws(Errno) {
      let poller = try Poller.open()
      try poller.add(socket.fd, [], token: 0)
      self.poller = poller
    } catch {
      throw .socket(error)
    }
    self.socket = socket
    self.patience = patience
  }

  /// Connects to a member; names are looked up.
  static func connect(
    to text: String, patience: UInt64, _ tls: TLSFiles?
  ) throws(Failure) -> Exchange {
    guard let url = PeerURL(text), !url.isSecure || tls != nil else { throw .unsupported }
    let context = url.isSecure ? tls?.contexts.client : nil
    return try connect(to: url, patience: patience, context, speaks: .http1)
  }

  /// Connects to the first address of a server that answers, in clear without `context`.
  static func connect(
    to url: PeerURL, patience: UInt64, _ context: TLSContext?, speaks: ApplicationProtocol
  ) throws(Failure) -> Exchange {
    var failure = Failure.socket(.notAnAddress)
    for address in try addresses(of: url) {
      do throws(Failure) {
        return try connect(to: url, at: address, patience: patience, context, speaks)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private static func addresses(of url: PeerURL) throws(Failure) -> [String] {
    if url.socketPath != nil { return [url.host] }
    do throws(Errno) { return try Socket.addresses(of: url.host) } catch { throw .socket(error) }
  }

  private static func connect(
    to url: PeerURL, at address: String, patience: UInt64, _ context: TLSContext?,
    _ speaks: ApplicationProtocol
  ) throws(Failure) -> Exchange {
    var stream: TLSStream?
    if let context {
      do throws(TLSError) {
        stream = try TLSStream.client(context, host: url.host, speaks: [speaks])
      } catch {
        throw .tls(error)
      }
    }
    let socket: Socket
    do throws(Errno) { socket = try url.connect(at: address) } catch { throw .socket(error) }
    var exchange = try Exchange(socket, stream, patience)
    try exchange.wait(.write)
    if let failure = exchange.socket.failure { throw .socket(failure) }
    try exchange.shakeHands()
    return exchange
  }

  private mutating func shakeHands() throws(Failure) {
    guard let stream else { return }
    while true {
      try flush(stream)
      if stream.isOpen { return }
      guard let count = try Self.take(socket, &raw) else {
        try wait(.read)
        continue
      }
      guard count > 0 else { throw .closed }
      let bytes = raw
      // A server speaks only once it is asked: there is no clear text yet.
      _ = try open(stream, bytes.rawSpan.extracting(0..<count))
    }
  }

  private mutating func open(_ stream: TLSStream, _ bytes: RawSpan) throws(Failure) -> Int {
    do throws(TLSError) { return try stream.receive(bytes, into: &buffer) } catch {
      throw .tls(error)
    }
  }

  private static func take(
    _ socket: borrowing Socket, _ buffer: inout [UInt8]
  ) throws(Failure) -> Int? {
    do throws(Errno) { return try socket.read(into: &buffer) } catch { throw .socket(error) }
  }

  private mutating func flush(_ stream: TLSStream) throws(Failure) {
    stream.takeOutput(into: &sealed)
    let bytes = sealed
    try put(bytes.rawSpan)
    sealed.removeAll(keepingCapacity: true)
  }

  private mutating func wait(_ interest: Poller.Interest) throws(Failure) {
    do throws(Errno) {
      try poller.change(socket.fd, interest, token: 0)
      events.removeAll(keepingCapacity: true)
      try poller.wait(milliseconds: Int32(clamping: patience / 1_000_000), into: &events)
    } catch {
      throw .socket(error)
    }
    if events.isEmpty { throw .timedOut }
  }

  mutating func write(_ bytes: RawSpan) throws(Failure) {
    guard let stream else { return try put(bytes) }
    do throws(TLSError) { try stream.send(bytes) } catch { throw .tls(error) }
    try flush(stream)
  }

  private mutating func put(_ bytes: RawSpan) throws(Failure) {
    var sent = 0
    while sent < bytes.byteCount {
      let count: Int
      do throws(Errno) {
        count = try socket.write(bytes.extracting(sent..<bytes.byteCount))
      } catch {
        throw .socket(error)
      }
      sent += count
      if count == 0 { try wait(.write) }
    }
  }

  /// Hands what comes next to `body`; false at the end.
  mutating func read(_ body: (RawSpan) throws(Failure) -> Void) throws(Failure) -> Bool {
    while true {
      let found =
        stream == nil ? try Self.take(socket, &buffer) : try Self.take(socket, &raw)
      guard var count = found else {
        try wait(.read)
        continue
      }
      if count == 0 { return false }
      if let stream {
        let sealed = raw
        count = try open(stream, sealed.rawSpan.extracting(0..<count))
        if stream.hasOutput { try flush(stream) }
        if count == 0, stream.hasEnded { return false }
        if count == 0 { continue }
      }
      let bytes = buffer
      try body(bytes.rawSpan.extracting(0..<count))
      return true
    }
  }

  /// The answer to what was written.
  mutating func answer() throws(Failure) -> (head: AnswerReader.Head, body: [UInt8]) {
    var reader = AnswerReader()
    var body: [UInt8] = []
    while !reader.isComplete {
      let goesOn = try read { bytes throws(Failure) in
        do throws(WireError) { try reader.receive(bytes, body: &body) } catch {
          throw .wire(error)
        }
        guard body.count <= PeerLimits.answerBytes else { throw .wire(.answerTooLarge) }
      }
      if !goesOn, !reader.closed() { throw .closed }
    }
    guard let head = reader.head else { throw .closed }
    return (head, body)
  }

  /// Asks a member for `path` by GET.
  static func get(
    _ path: String, of url: String, patience: UInt64, _ tls: TLSFiles?
  ) throws(Failure) -> (head: AnswerReader.Head, body: [UInt8]) {
    try ask(PeerRequest("GET", path, headers: [], body: .none), of: url, patience: patience, tls)
  }

  /// Makes one request and closes the connection.
  static func ask(
    _ request: PeerRequest, of url: String, patience: UInt64, _ tls: TLSFiles?
  ) throws(Failure) -> (head: AnswerReader.Head, body: [UInt8]) {
    var exchange = try connect(to: url, patience: patience, tls)
    var bytes: [UInt8] = []
    var request = request
    request.headers.append(("Connection", "close"))
    request.encode(for: PeerURL(url)?.authority ?? "", into: &bytes)
    try exchange.write(bytes.rawSpan)
    return try exchange.answer()
  }
}
