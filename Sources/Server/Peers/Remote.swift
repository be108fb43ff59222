internal import Basics
internal import Membership
internal import Peers
internal import Platform
internal import Raft

/// Another member as the peer thread sees it.
final class Remote {
  enum Limits {
    /// Connections that carry messages of Raft to one member.
    static let posts = 4
    /// Those that carry other requests: clients' leases are renewed by way of them.
    static let others = 32
    /// Other requests that wait for one of them.
    static let asks = 1024
  }

  let id: NodeID
  private(set) var texts: [String]
  var picker: URLPicker
  /// Both by `Channel.rawValue`.
  var outflows: [Link?] = [nil, nil]
  var inflows: [Link?] = [nil, nil]
  var redials = [Redial(), Redial()]
  var clients: [Link] = []
  /// Messages that wait to be posted, then other requests.
  var messages: [Ask] = []
  var asks: [Ask] = []
  var activity = Activity()
  var probe = Probe()
  var versionAt: UInt64 = 0
  /// Messages were lost since the raft thread was last told.
  var isLossy = false
  /// The last message that was posted was taken, and no stream has been there since.
  var takesPosts = false
  var wasRefused = false
  /// When it was last told that the clocks are apart; long ago at first.
  var driftToldAt: UInt64 = 0

  let figures: PeerFigures

  init(_ id: NodeID, _ urls: [String], _ metrics: PeerMetrics) {
    self.id = id
    figures = metrics.figures(of: id)
    texts = urls
    picker = URLPicker(urls)
  }

  /// Takes other URLs; true when they are others.
  func move(to urls: [String]) -> Bool {
    guard urls != texts else { return false }
    texts = urls
    picker = URLPicker(urls)
    return true
  }

  func outflow(_ channel: Channel) -> Link? { outflows[channel.rawValue] }

  /// Messages get to it, as far as is known. A member that cannot open streams here, as its
  /// certificate is refused say, may lead all the same: what is posted reaches it.
  var isReachable: Bool { outflow(.message) != nil || takesPosts }

  /// Messages that wait to be posted.
  var posts: Int { messages.count }

  var links: [Link] {
    outflows.compactMap { $0 } + inflows.compactMap { $0 } + clients
  }
}

extension PeerURL {
  /// Begins to connect, to `address` in place of the host's name; `Errno.notAnAddress` when that
  /// is a name.
  func connect(at address: String) throws(Errno) -> Socket {
    if let socketPath { return try Socket.connect(path: socketPath) }
    return try Socket.connect(address: address, port: port)
  }
}
