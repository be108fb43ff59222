internal import Basics
internal import HTTP1
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Services

/// Requests to other members: single messages, probes, versions, what only the leader answers.
extension PeerThread {
  // MARK: Asking

  /// Sends a message by a request of its own. etcd: `pipeline`.
  mutating func post(_ message: Message, to remote: Remote) {
    var body: [UInt8] = []
    message.encode(into: &body)
    let request = PeerRequest(
      "POST", "/raft", headers: handshake.headers(to: remote.id, isStream: false),
      body: .bytes(body, type: "application/protobuf"))
    ask(remote, .message(message), request, PeerLimits.answerTimeout)
  }

  mutating func ask(
    _ remote: Remote, _ purpose: Ask.Purpose, _ request: PeerRequest, _ timeout: UInt64
  ) {
    let ask = Ask(purpose: purpose, request: request, startedAt: now, deadline: now + timeout)
    if ask.isMessage {
      remote.messages.append(ask)
    } else if remote.asks.count < Remote.Limits.asks {
      remote.asks.append(ask)
    } else {
      return failed(ask, remote, "too many requests wait")
    }
    start(remote)
  }

  /// Puts waiting requests on connections that are free, or on new ones. Messages never wait
  /// behind what may itself wait for them on the other side.
  private mutating func start(_ remote: Remote) {
    while !remote.messages.isEmpty,
      let link = free(remote, isMessage: true, atMost: Remote.Limits.posts)
    {
      begin(link, remote.messages.removeFirst())
    }
    while !remote.asks.isEmpty,
      let link = free(remote, isMessage: false, atMost: Remote.Limits.others)
    {
      begin(link, remote.asks.removeFirst())
    }
  }

  private mutating func free(_ remote: Remote, isMessage: Bool, atMost limit: Int) -> Link? {
    let busy = remote.clients.count { $0.ask?.isMessage == isMessage }
    guard busy < limit else { return nil }
    if let link = remote.clients.first(where: { $0.ask == nil && $0.isOpen }) { return link }
    guard let link = connect(remote, .client(remote.id)) else { return nil }
    remote.clients.append(link)
    return link
  }

  private mutating func begin(_ link: Link, _ ask: Ask) {
    var ask = ask
    ask.startedAt = now
    link.answer = AnswerReader()
    link.body = []
    link.ask = ask
    ask.request.encode(for: link.url?.authority ?? "", into: &link.output)
    if link.isOpen { mark(link) }
  }

  /// Takes bytes of an answer.
  mutating func take(_ link: Link, _ bytes: RawSpan, _ id: NodeID) {
    guard link.ask != nil else { return broken(link, "an answer to nothing") }
    do throws(WireError) {
      try link.answer.receive(bytes, body: &link.body)
    } catch {
      return broken(link, "\(error)")
    }
    guard link.body.count <= PeerLimits.answerBytes else {
      return broken(link, "\(WireError.answerTooLarge)")
    }
    if link.answer.isComplete { answered(link, id) }
  }

  /// An answer is whole.
  mutating func answered(_ link: Link, _ id: NodeID) {
    guard let ask = link.ask, let head = link.answer.head else { return }
    link.ask = nil
    let body = link.body
    let isReusable = link.answer.leavesConnectionUsable
    if !isReusable { close(link) }
    guard let remote = remote(id) else { return }
    if ask.isMessage, head.status != 204, let url = link.url {
      leave(remote, url, link.address)
      close(link)
    }
    take(ask, head.status, body, remote)
    start(remote)
  }

  private mutating func take(_ ask: Ask, _ status: Int, _ body: [UInt8], _ remote: Remote) {
    switch ask.purpose {
    case .message:
      switch PeerVerdict(status: status, body: body, isStream: false) {
      case .accepted:
        noteActive(remote)
        note(remote, takesPosts: remote.outflow(.message) == nil)
      case .removed: shared.endRemoved()
      case let verdict:
        remote.isLossy = true
        note(remote, takesPosts: false)
        shared.log.warn(
          "a peer refuses a message", ("remote-peer-id", Handshake.text(remote.id.rawValue)),
          ("verdict", "\(verdict)"))
      }
    case .probe:
      let took = now - ask.startedAt
      guard remote.probe.answered(body, roundTrip: took, wall: Clock.wall()) else { return }
      remote.figures.roundTrips.observe(nanoseconds: took)
      if remote.probe.isDrifting, now >= remote.driftToldAt + Limits.driftNanoseconds {
        remote.driftToldAt = now
        shared.log.warn(
          "prober found high clock drift",
          ("remote-peer-id", Handshake.text(remote.id.rawValue)),
          ("clock-drift", "\(remote.probe.clockDifference / 1_000_000)ms"))
      }
    case .version:
      guard status == 200, let json = try? JSON.parse(body), let text = json["etcdserver"]?.text
      else { return }
      let id = remote.id
      shared.board.withLock { $0.peerVersions[id] = text }
    case .forward(let item): answered(item, status, body)
    case .hash(let number):
      heard(number, remote.id) { HashAnswer(status: status, body: body, to: $0) }
    }
  }

  mutating func failed(_ ask: Ask, _ remote: Remote, _ why: String) {
    switch ask.purpose {
    case .message:
      remote.isLossy = true
      remote.figures.failures.add(1)
      note(remote, takesPosts: false)
      noteInactive(remote, why)
    case .probe: remote.probe.failed()
    case .version:
      let id = remote.id
      shared.board.withLock { $0.peerVersions[id] = nil }
    case .forward(let item): retry(item)
    case .hash(let number): heard(number, remote.id) { _ in .missing(why) }
    }
  }

  /// Probes, looks at versions, and gives up what takes too long.
  mutating func tickAsks(_ remote: Remote) {
    for link in remote.clients {
      if !link.isOpen, now - link.readAt > link.patience {
        broken(link, "connect timeout")
      } else if let ask = link.ask, now >= ask.deadline {
        broken(link, "answer timeout")
      } else if link.ask == nil, now - link.readAt > PeerLimits.readTimeout {
        close(link)
      }
    }
    let late = (remote.messages + remote.asks).filter { now >= $0.deadline }
    remote.messages.removeAll { now >= $0.deadline }
    remote.asks.removeAll { now >= $0.deadline }
    for ask in late { failed(ask, remote, "no connection") }
    start(remote)
    if remote.probe.nextAt <= now {
      remote.probe.sent(now)
      ask(
        remote, .probe, PeerRequest("GET", "/raft/probing", headers: [], body: .none),
        PeerLimits.probeInterval)
    }
    if remote.versionAt <= now {
      remote.versionAt = now + Limits.versionNanoseconds
      ask(
        remote, .version, PeerRequest("GET", "/version", headers: [], body: .none),
        PeerLimits.probeInterval)
    }
  }
}
