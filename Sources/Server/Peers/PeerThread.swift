internal import Basics
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// Speaks with the other members: etcd's rafthttp. Owns every connection of the peer port but
/// those of snapshots, which have threads of their own. It waits for sockets and mail alone,
/// never for a disk; appends and all other messages go on connections of their own, so that a
/// heartbeat waits for neither. Each wake takes all that is there and writes to each connection
/// once.
struct PeerThread: ~Copyable {
  struct Settings: Sendable {
    var handshake: Handshake
    var listeners: [Listener]
    /// Who shakes hands over TLS, so that no heartbeat waits for it; nil without TLS.
    var greeter: Greeter.Handle?
    /// As the log knows them at the start.
    var members: PeerMembers
    /// Members of a cluster that is being joined, before the log has told of them.
    var acquaintances: [Membership.Member]
    var startMilliseconds: UInt64
    /// How long a request of a client may wait for the leader's answer.
    var forwardNanoseconds: UInt64
    var courier: Courier.Settings
    var corruption: CorruptionMonitor.Settings
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
    /// Longer than any member waits for an answer.
    static let questionPatience: UInt64 = 30_000_000_000
  }

  let shared: Shared
  let settings: Settings
  let handshake: Handshake
  var reactor: Reactor
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
  var corruption: CorruptionMonitor
  var buffer = [UInt8](repeating: 0, count: Link.Limits.readBytes)
  /// What TLS has opened of it.
  var clear: [UInt8] = []
  var complaints = LogThrottle.members
  var now = Clock.monotonic()
  private var inbox: [PeerInput] = []
  private var nextTick: UInt64 = 0
  /// What the board says of the others is out of date.
  var activeChanged = true

  static func open(_ shared: Shared, _ settings: Settings) throws(Errno) -> PeerThread {
    var reactor = try Reactor.open(shared.peers.wakeup, shared.log, descriptorsLeft: 0)
    try reactor.listen(on: settings.listeners)
    return PeerThread(shared, settings, reactor)
  }

  private init(_ shared: Shared, _ settings: Settings, _ reactor: consuming Reactor) {
    self.shared = shared
    self.settings = settings
    handshake = settings.handshake
    self.reactor = reactor
    members = settings.members
    acquaintances = settings.acquaintances
    ids = RequestIDs(
      member: settings.handshake.member, startMilliseconds: settings.startMilliseconds,
      loop: shared.peerLoop)
    courier = Courier(shared, settings.courier, settings.handshake)
    corruption = CorruptionMonitor(settings.corruption, now: Clock.monotonic())
  }

  consuming func run() {
    align()
    while true {
      now = reactor.wait(until: nextTick)
      takeMail()
      for event in reactor.events { handle(event) }
      now = Clock.monotonic()
      if now >= nextTick {
        nextTick = now + Limits.tickNanoseconds
        tick()
      }
      if corruption.check?.isReady ?? false { tickCorruption() }
      forward()
      deliver()
      writeAll()
    }
  }

  private mutating func takeMail() {
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
      case .secured(let secured, let token): take(secured, token: token)
      case .unsecured(let token, let why): unsecured(token, why)
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
    let reachable = remotes.filter(\.isReachable).map(\.id)
    shared.board.withLock { board in
      board.status.activeSince = active
      board.reachable = reachable
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
      remote.figures.active.set(0)
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

  mutating func note(_ remote: Remote, takesPosts: Bool) {
    guard remote.takesPosts != takesPosts else { return }
    remote.takesPosts = takesPosts
    activeChanged = true
  }

  mutating func noteInactive(_ remote: Remote, _ why: String) {
    note(remote, takesPosts: false)
    guard remote.activity.deactivate() else { return }
    activeChanged = true
    remote.figures.active.set(0)
    remote.figures.losses.add(1)
    shared.log.warn(
      "peer became inactive (message send to peer failed)",
      ("peer-id", Handshake.text(remote.id.rawValue)), ("error", why))
  }

  // MARK: Connections

  func watch(_ link: Link) {
    var wanted: Poller.Interest = link.isOpen && link.isReading ? .read : []
    if !link.isOpen || link.isBlocked { wanted.insert(.write) }
    guard wanted != link.interest else { return }
    link.interest = wanted
    try? reactor.poller.change(link.fd, wanted, token: link.token)
  }

  /// Takes a connection in; nil when the system has no room for it.
  mutating func add(
    _ socket: consuming Socket, _ role: Link.Role, _ url: PeerURL?, isOpen: Bool
  ) -> Link? {
    let token = nextToken
    nextToken += 1
    let link = Link(
      token: token, socket: socket, role: role, url: url, isOpen: isOpen, now: now)
    link.interest = isOpen ? .read : .write
    guard (try? reactor.poller.add(link.fd, link.interest, token: token)) != nil else { return nil }
    links[token] = link
    return link
  }

  /// Forgets a connection; its descriptor is closed with the last mention of it.
  mutating func close(_ link: Link) {
    guard links.removeValue(forKey: link.token) != nil else { return }
    // One whose handshake is being made is not watched, and its number may be another's by now.
    if !link.isAway { try? reactor.poller.remove(link.fd) }
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
      if link.hasPausedRequests, link.takesRequests { serve(link) }
      watch(link)
    }
    dirty.removeAll(keepingCapacity: true)
  }
}
