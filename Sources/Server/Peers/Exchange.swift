internal import Basics
internal import Peers
internal import Platform

/// One connection that its thread waits on: what is done once, at a start, or takes long, such as
/// a snapshot. A step that moves nothing for `patience` is an error.
struct Exchange: ~Copyable {
  enum Failure: Error {
    case socket(Errno)
    case wire(WireError)
    case timedOut
    case closed
    /// A URL that cannot be dialled.
    case unsupported
    case refused(PeerVerdict)

    var text: String {
      switch self {
      case .socket(let error): "\(error)"
      case .wire(let error): "\(error)"
      case .timedOut: "timed out"
      case .closed: "closed by the other side"
      case .refused(let verdict): "\(verdict)"
      case .unsupported: "not a URL that can be dialled here"
      }
    }
  }

  private let socket: Socket
  private var poller: Poller
  private let patience: UInt64
  private var buffer = [UInt8](repeating: 0, count: 256 << 10)
  private var events: [Poller.Event] = []

  /// Takes over a connection.
  init(adopting fd: Int32, patience: UInt64) throws(Failure) {
    try self.init(Socket.adopting(fd), patience)
  }

  private init(_ socket: consuming Socket, _ patience: UInt64) throws(Failure) {
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
  static func connect(to text: String, patience: UInt64) throws(Failure) -> Exchange {
    guard let url = PeerURL(text), !url.isSecure else { throw .unsupported }
    var exchange = try Exchange(try dial(url), patience)
    try exchange.wait(.write)
    if let failure = exchange.socket.failure { throw .socket(failure) }
    return exchange
  }

  private static func dial(_ url: PeerURL) throws(Failure) -> Socket {
    do throws(Errno) {
      let isAddress = url.host.utf8.allSatisfy { $0 == 0x2e || $0 == 0x3a || isHexDigit($0) }
      if isAddress, let socket = try? Socket.connect(address: url.host, port: url.port) {
        return socket
      }
      guard let address = try Socket.addresses(of: url.host).first else {
        throw Errno.notAnAddress
      }
      return try Socket.connect(address: address, port: url.port)
    } catch {
      throw .socket(error)
    }
  }

  private static func isHexDigit(_ byte: UInt8) -> Bool {
    (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte | 0x20)
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
      let count: Int?
      do throws(Errno) { count = try socket.read(into: &buffer) } catch { throw .socket(error) }
      guard let count else {
        try wait(.read)
        continue
      }
      if count == 0 { return false }
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
    _ path: String, of url: String, patience: UInt64
  ) throws(Failure) -> (head: AnswerReader.Head, body: [UInt8]) {
    var exchange = try connect(to: url, patience: patience)
    var bytes: [UInt8] = []
    PeerRequest("GET", path, headers: [("Connection", "close")], body: .none)
      .encode(for: PeerURL(url)?.authority ?? "", into: &bytes)
    try exchange.write(bytes.rawSpan)
    return try exchange.answer()
  }
}
