internal import Basics
internal import Peers
internal import Platform
internal import Raft
internal import Services

extension PeerThread {
  // MARK: Messages out

  /// Puts messages on their way, appends last: encoding many of them takes a while, and they go
  /// on a stream of their own.
  mutating func send(_ messages: [Message]) {
    var appends = 0
    for message in messages {
      if message.isAppend { appends += 1 } else { send(message) }
    }
    guard appends > 0 else { return }
    if appends < messages.count { writeAll() }
    for message in messages where message.isAppend { send(message) }
  }

  /// Puts a message on its way; one that finds none is lost, which Raft expects.
  private mutating func send(_ message: Message) {
    guard let remote = remote(message.to) else {
      // Raft waits for the outcome of a snapshot, and of nothing else.
      if case .snapshot = message.body {
        courier.forget(message.to)
        shared.raft.post(.snapshotSent(message.to, isDelivered: false))
      }
      return
    }
    let append = remote.outflow(.append)
    let other = remote.outflow(.message)
    let route = Route.of(
      message, append: append?.waitingBytes, message: other?.waitingBytes, posts: remote.posts)
    switch route {
    case .stream(.append):
      guard let append else { return }
      append.writer.append(message, to: &append.chunk)
      mark(append)
    case .stream(.message):
      guard let other else { return }
      MessageWriter.append(message, to: &other.chunk)
      mark(other)
    case .post: post(message, to: remote)
    case .snapshot: courier.send(message, to: remote.texts)
    case .drop:
      remote.isLossy = true
      remote.figures.failures.add(1)
    }
  }

  // MARK: Dialling

  /// Asks for the streams that are not there.
  mutating func dial(_ remote: Remote) {
    for channel in Channel.allCases {
      let place = channel.rawValue
      guard remote.inflows[place] == nil, remote.redials[place].at <= now else { continue }
      let role = Link.Role.inflow(remote.id, channel)
      guard let link = connect(remote, role) else {
        if !isLookingUp(remote) { remote.redials[place].failed(now) }
        continue
      }
      remote.inflows[place] = link
      let request = PeerRequest(
        "GET", channel.path + Handshake.text(handshake.member.rawValue),
        headers: handshake.headers(to: remote.id, isStream: true), body: .none)
      request.encode(for: link.url?.authority ?? "", into: &link.output)
    }
  }

  private func isLookingUp(_ remote: Remote) -> Bool {
    remote.picker.current.map { lookups.contains($0.host) } ?? false
  }

  /// Begins to connect to the member; nil while its name is looked up, or when that cannot be.
  mutating func connect(_ remote: Remote, _ role: Link.Role) -> Link? {
    guard let url = remote.picker.current else { return nil }
    guard canDial(url) else {
      remote.picker.unreachable(url)
      return nil
    }
    let address = addresses[url.host]?.first ?? url.host
    do throws(Errno) {
      let link = add(try url.connect(at: address), role, url, isOpen: false)
      link?.address = address
      return link
    } catch {
      if error == .notAnAddress {
        look(up: url.host)
      } else {
        leave(remote, url, address)
      }
      return nil
    }
  }

  /// Goes on to the member's next URL, and to the next address of this one's name; when none is
  /// left it is looked up again.
  mutating func leave(_ remote: Remote?, _ url: PeerURL, _ address: String) {
    remote?.picker.unreachable(url)
    addresses[url.host]?.removeAll { $0 == address }
    if addresses[url.host]?.isEmpty == true { addresses[url.host] = nil }
  }

  /// Finds the addresses of a name, on a thread of its own, since that may take seconds.
  private mutating func look(up name: String) {
    guard lookups.insert(name).inserted else { return }
    let box = shared.peers.box
    Thread.detach("resolve") {
      let found = (try? Socket.addresses(of: name)) ?? []
      box.post(.resolved(name, found))
    }
  }

  /// A connection is of no more use.
  mutating func broken(_ link: Link, _ why: String) {
    let role = link.role
    let ask = link.ask
    link.ask = nil
    if let url = link.url {
      switch role {
      case .inflow(let id, _) where !link.isOpen || link.answer.head?.status != 200:
        leave(remote(id), url, link.address)
      case .client(let id) where !link.isOpen || link.answer.head == nil:
        leave(remote(id), url, link.address)
      default: break
      }
    }
    close(link)
    switch role {
    case .server: break
    case .outflow(let id, _):
      // The member will ask for its stream again; until then it may be gone.
      if let remote = remote(id), remote.outflow(.message) == nil {
        noteInactive(remote, why)
      }
    case .inflow(let id, let channel):
      guard let remote = remote(id) else { break }
      remote.redials[channel.rawValue].failed(now)
      noteInactive(remote, why)
    case .client(let id):
      guard let remote = remote(id) else { break }
      if let ask { failed(ask, remote, why) }
    }
  }

  // MARK: Messages in

  /// Takes bytes of a stream.
  mutating func flow(
    _ link: Link, _ bytes: RawSpan, _ id: NodeID, _ channel: Channel
  ) {
    do throws(WireError) {
      remote(id)?.figures.received.add(bytes.byteCount)
      try link.answer.receive(bytes, body: &link.body)
      guard let head = link.answer.head else { return }
      guard head.status == 200 else {
        guard link.body.count <= PeerLimits.answerBytes else { throw .answerTooLarge }
        if link.answer.isComplete { refused(link, head, id, channel) }
        return
      }
      greet(link, id, channel)
      let body = link.body
      switch channel {
      case .append: try link.appends!.receive(body.rawSpan, into: &arrived)
      case .message: try link.messages!.receive(body.rawSpan, into: &arrived)
      }
      link.body.removeAll(keepingCapacity: link.body.capacity <= Link.Limits.keptBytes)
      if link.answer.isComplete { broken(link, "the stream ended") }
    } catch {
      remote(id)?.figures.receiveFailures.add(1)
      shared.log.warn(
        "a peer's stream cannot be read", ("peer-id", Handshake.text(id.rawValue)),
        ("error", "\(error)"))
      broken(link, "\(error)")
    }
  }

  /// The head of a stream has come.
  private mutating func greet(_ link: Link, _ id: NodeID, _ channel: Channel) {
    guard link.appends == nil, link.messages == nil, let remote = remote(id) else { return }
    switch channel {
    case .append: link.appends = AppendReader(local: handshake.member, remote: id)
    case .message: link.messages = MessageReader()
    }
    remote.redials[channel.rawValue].succeeded()
    remote.wasRefused = false
    noteActive(remote)
    shared.log.info(
      "established TCP streaming connection with remote peer",
      ("stream-reader-type", "\(channel)"), ("remote-peer-id", Handshake.text(id.rawValue)))
  }

  private mutating func refused(
    _ link: Link, _ head: AnswerReader.Head, _ id: NodeID, _ channel: Channel
  ) {
    let verdict = PeerVerdict(status: head.status, body: link.body, isStream: true)
    if verdict == .removed { shared.endRemoved() }
    if let remote = remote(id), !remote.wasRefused {
      remote.wasRefused = true
      shared.log.warn(
        "a peer refuses to stream", ("remote-peer-id", Handshake.text(id.rawValue)),
        ("verdict", "\(verdict)"), ("stream", "\(channel)"))
    }
    // It may not be the member that listens there.
    for client in remote(id)?.clients ?? [] where client.ask == nil { close(client) }
    broken(link, "\(verdict)")
  }

  // MARK: Time

  mutating func tick() {
    tickCorruption()
    for remote in remotes {
      for link in remote.outflows.compactMap({ $0 }) { keepAlive(link) }
      for link in remote.inflows.compactMap({ $0 }) {
        if now - link.readAt > link.patience { broken(link, "read timeout") }
      }
      dial(remote)
      tickAsks(remote)
    }
    giveUpQuestions()
    for link in links.values {
      guard case .server = link.role, !link.isAsking else { continue }
      if now - max(link.readAt, link.wroteAt) > Limits.idleNanoseconds { close(link) }
    }
  }

  /// Says something on a stream that has nothing to say, and gives one up that takes nothing.
  private mutating func keepAlive(_ link: Link) {
    guard case .outflow(_, let channel) = link.role else { return }
    if link.isBlocked {
      if now - link.wroteAt > PeerLimits.readTimeout { broken(link, "write timeout") }
      return
    }
    guard now - link.wroteAt >= PeerLimits.heartbeatInterval, link.chunk.isEmpty else { return }
    switch channel {
    case .append: AppendWriter.appendHeartbeat(to: &link.chunk)
    case .message: MessageWriter.appendHeartbeat(to: &link.chunk)
    }
    mark(link)
  }
}

extension Message {
  var isAppend: Bool {
    if case .append = body { true } else { false }
  }
}
