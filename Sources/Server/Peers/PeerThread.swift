internal import Basics
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import TLS

/// Speaks with the other members: etcd's rafthttp. Owns every connection of the peer port but
/// those of snapshots, which have threads of their own. It waits for sockets and mail alone,
/// never for a disk; appends and all other messages go on connections of their own, so that a
/// heartbeat waits for neither. Each wake takes all that is there and writes to each connection
/// once.
struct PeerThread: ~Copyable {
  struct Settings: Sendable {
    var handshake: Handshake
    var listeners: [Listener]
    /// For calls to members whose URLs are https.
    var tls: TLSFiles?
    /// Names in certificates are not held against addresses.
    var skipsNameCheck: Bool
    /// As the log knows them at the start.
    var members: PeerMembers
    /// Members of a cluster that is being joined, before the log has told of them.
    var acquaintances: [Membership.Member]
    var startMilliseconds: UInt64
    /// How long a request of a client may wait for the leader's answer.
    var forwardNanoseconds: UInt64
    var courier: Courier.Settings
  }

  enum Limits {
    static let tickNanoseconds: UInt64 = 100_000_000
    /// Between two looks at the others' versions. etcd: `monitorVersionInterval`.
    static let versionNanoseconds: UInt64 = 5_000_000_000
    /// Between two lines on clocks that are apart. etcd: `statusMonitoringInterval`.
    static let driftNanoseconds: UInt64 = 30_000_000_000
    /// Before a question for the leader is asked again.
    static let forwardRetryNanoseconds: UInt64 = 50_000_000
    static let forwardsMax = 16_384
    /// Connections from outside.
    static let serversMax = 1024
    /// A connection from outside on which nothing comes for so long is closed.
    static let idleNanoseconds: UInt64 = 60_000_000_000
    /// The same while the two have not shaken hands over TLS.
    static let handshakeNanoseconds: UInt64 = 10_000_000_000
  }

  static let wakeToken = UInt64.max
  static let listenerTokens: UInt64 = 1 << 62

  let shared: Shared
  let settings: Settings
  let handshake: Handshake
  var poller: Poller
  var links: [UInt64: Link] = [:]
  var nextToken: UInt64 = 1
  var serverCount = 0
  /// In order of their IDs.
  var remotes: [Remote] = []
  var members: PeerMembers
  /// Members that the log has not told of yet: those of a cluster that is being joined, and
  /// senders that were added later than this member has heard of.
  var acquaintances: [Membership.Member]
  var dirty: [Link] = []
  /// What has come for the raft thread in this wake.
  var arrived: [Message] = []
  /// Addresses of names, and names that are being looked up.
  var addresses: [String: [String]] = [:]
  var lookups: Set<String> = []
  var waiting: [Waiting] = []
  /// Requests of other members that wait for the apply thread: the connection, by question.
  var questions: [UInt64: Question] = [:]
  var ids: RequestIDs
  var courier: Courier
  var buffer = [UInt8](repeating: 0, count: Link.Limits.readBytes)
  /// What TLS has not opened yet.
  var raw = [UInt8](repeating: 0, count: Link.Limits.readBytes)
  var complaints = LogThrottle()
  var now = Clock.monotonic()
  private var events: [Poller.Event] = []
  private var inbox: [PeerInput] = []
  private var nextTick: UInt64 = 0
  /// What the board says of the others is out of date.
  var activeChanged = true

  static func open(_ shared: Shared, _ settings: Settings) throws(Errno) -> PeerThread {
    let poller = try Poller.open()
    try poller.add(shared.peers.wakeup.fd, .read, token: wakeToken)
    for (place, listener) in settings.listeners.enumerated() {
      try poller.add(listener.fd, .read, token: listenerTokens + UInt64(place))
    }
    return PeerThread(shared, settings, poller)
  }

  private init(_ shared: Shared, _ settings: Settings, _ poller: consuming Poller) {
    self.shared = shared
    self.settings = settings
    handshake = settings.handshake
    self.poller = poller
    members = settings.members
    acquaintances = settings.acquaintances
    ids = RequestIDs(
      member: settings.handshake.member, startMilliseconds: settings.startMilliseconds,
      loop: shared.peerLoop)
    courier = Courier(shared, settings.courier, settings.handshake)
  }

  consuming func run() {
    align()
    while true {
      wait()
      takeMail()
      for event in events { handle(event) }
      now = Clock.monotonic()
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        tick()
      }
      forward()
      deliver()
      writeAll()
    }
  }

  private mutating func wait() {
    now = Clock.monotonic()
    let milliseconds = nextTick > now ? (nextTick - now) / 1_000_000 + 1 : 0
    events.removeAll(keepingCapacity: true)
    do throws(Errno) {
      try poller.wait(milliseconds: Int32(clamping: milliseconds), into: &events)
    } catch {
      shared.log.fatal("epoll failed", ("error", "\(error)"))
    }
    now = Clock.monotonic()
  }

  private mutating func takeMail() {
    shared.peers.wakeup.clear()
    shared.peers.box.drain(into: &inbox)
    for input in inbox {
      switch input {
      case .messages(let messages): send(messages)
      case .members(let members):
        self.members = members
        align()
      case .forwards(let forwards): for item in forwards { take(item) }
      case .completions(let batch): answer(batch)
      case .resolved(let name, let found):
        lookups.remove(name)
        addresses[name] = found.isEmpty ? nil : found
      case .snapshotSent(let member, let isDelivered):
        courier.ended(to: member)
        shared.raft.post(.snapshotSent(member, isDelivered: isDelivered))
        if !isDelivered { shared.raft.post(.unreachable([member])) }
      case .export(let source, let member): courier.take(source, for: member)
      case .named(let token, let refusal): named(token, refusal)
      case .snapshotUnwanted(let member): courier.forget(member)
      case .wake: break
      }
    }
    inbox.removeAll(keepingCapacity: true)
  }

  /// Hands the raft thread what came, and what was lost, in this wake.
  private mutating func deliver() {
    if !arrived.isEmpty {
      shared.raft.post(.messages(arrived))
      arrived.removeAll(keepingCapacity: true)
    }
    var lost: [NodeID] = []
    for remote in remotes where remote.isLossy {
      remote.isLossy = false
      lost.append(remote.id)
    }
    if !lost.isEmpty { shared.raft.post(.unreachable(lost)) }
    guard activeChanged else { return }
    activeChanged = false
    var since: [NodeID: UInt64] = [:]
    for remote in remotes { since[remote.id] = remote.activity.since }
    let active = since
    let linked = remotes.filter { $0.outflow(.message) != nil }.map(\.id)
    shared.board.withLock { board in
      board.status.activeSince = active
      board.linked = linked
    }
  }

  // MARK: Members

  func remote(_ id: NodeID) -> Remote? { remotes.first { $0.id == id } }

  /// Knows every member but this one, and nobody else.
  mutating func align() {
    var wanted = members.members
    acquaintances.removeAll { member in
      members.isRemoved(member.id) || wanted.contains { $0.id == member.id }
    }
    wanted += acquaintances
    wanted.removeAll { $0.id == handshake.member }
    for remote in remotes where !wanted.contains(where: { $0.id == remote.id }) {
      for link in remote.links { close(link) }
    }
    remotes.removeAll { remote in !wanted.contains { $0.id == remote.id } }
    for member in wanted {
      guard let known = remote(member.id) else {
        let remote = Remote(member.id, member.peerURLs, shared.metrics.peers)
        remotes.insert(remote, at: remotes.firstIndex { $0.id > member.id } ?? remotes.count)
        continue
      }
      if known.move(to: member.peerURLs) {
        for link in known.inflows.compactMap({ $0 }) + known.clients { close(link) }
      }
    }
    activeChanged = true
  }

  func activate(_ remote: Remote) -> Bool {
    guard remote.activity.activate(now) else { return false }
    remote.figures.active.set(1)
    shared.log.info("peer became active", ("peer-id", Handshake.text(remote.id.rawValue)))
    return true
  }

  mutating func noteActive(_ remote: Remote) {
    if activate(remote) { activeChanged = true }
  }

  mutating func noteInactive(_ remote: Remote, _ why: String) {
    guard remote.activity.deactivate() else { return }
    activeChanged = true
    remote.figures.active.set(0)
    remote.figures.losses.add(1)
    shared.log.warn(
      "peer became inactive (message send to peer failed)",
      ("peer-id", Handshake.text(remote.id.rawValue)), ("error", why))
  }

  /// The cluster does not know this member any more.
  func removed() -> Never {
    shared.log.end(
      "the member has been permanently removed from the cluster and stops; its data directory "
        + "must be removed before it can join again",
      ("local-member-id", Handshake.text(handshake.member.rawValue)))
  }

  // MARK: Connections

  func watch(_ link: Link) {
    let wanted: Poller.Interest =
      !link.isOpen ? .write : link.isBlocked ? [.read, .write] : .read
    guard wanted != link.interest else { return }
    link.interest = wanted
    try? poller.change(link.fd, wanted, token: link.token)
  }

  /// Takes a connection in; nil when the system has no room for it.
  mutating func add(
    _ socket: consuming Socket, _ role: Link.Role, _ url: PeerURL?, _ stream: TLSStream?,
    isOpen: Bool
  ) -> Link? {
    let token = nextToken
    nextToken += 1
    let link = Link(
      token: token, socket: socket, role: role, url: url, isOpen: isOpen, stream: stream,
      now: now)
    link.interest = isOpen ? .read : .write
    guard (try? poller.add(link.fd, link.interest, token: token)) != nil else { return nil }
    links[token] = link
    return link
  }

  /// Forgets a connection; its descriptor is closed with the last mention of it.
  mutating func close(_ link: Link) {
    guard links.removeValue(forKey: link.token) != nil else { return }
    try? poller.remove(link.fd)
    switch link.role {
    case .server: serverCount -= 1
    case .outflow(let id, let channel):
      serverCount -= 1
      guard let remote = remote(id), remote.outflow(channel) === link else { break }
      remote.outflows[channel.rawValue] = nil
      remote.isLossy = true
      activeChanged = true
    case .inflow(let id, let channel):
      if let remote = remote(id), remote.inflows[channel.rawValue] === link {
        remote.inflows[channel.rawValue] = nil
      }
    case .client(let id): remote(id)?.clients.removeAll { $0 === link }
    }
    link.drop()
  }

  mutating func mark(_ link: Link) {
    guard !link.isDirty else { return }
    link.isDirty = true
    dirty.append(link)
  }

  mutating func writeAll() {
    var at = 0
    while at < dirty.count {
      let link = dirty[at]
      at += 1
      link.isDirty = false
      guard links[link.token] != nil, link.isOpen else { continue }
      guard link.write(now: now) else {
        broken(link, "write failed")
        continue
      }
      if link.isEnding, !link.isBlocked {
        close(link)
        continue
      }
      watch(link)
    }
    dirty.removeAll(keepingCapacity: true)
  }
}
