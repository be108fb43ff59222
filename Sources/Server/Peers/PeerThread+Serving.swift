internal import Basics
internal import HTTP1
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services

/// What a request of another member is answered with.
struct PeerAnswer {
  var status: Int
  var type: String
  var body: [UInt8]

  init(_ status: Int, _ type: String, _ body: [UInt8]) {
    self.status = status
    self.type = type
    self.body = body
  }

  /// Go's `http.Error`.
  init(_ status: Int, error text: String) {
    self.init(status, "text/plain; charset=utf-8", Array((text + "\n").utf8))
  }

  init(_ refusal: PeerRefusal) { self.init(refusal.status, error: refusal.text) }
}

extension PeerThread {
  mutating func handle(_ event: Poller.Event) {
    if let place = reactor.listener(of: event) { return accept(place) }
    guard let link = links[event.token] else { return }
    if !link.isOpen {
      if let failure = link.failure { return broken(link, "\(failure)") }
      if link.url?.isSecure == true { return shakeHands(link) }
      link.isOpen = true
      mark(link)
      return
    }
    if !event.ready.isDisjoint(with: [.hangUp, .error]), !link.isReading {
      return broken(link, "closed by the other side")
    }
    if !event.ready.isDisjoint(with: [.read, .hangUp, .error]) { read(link) }
    if event.ready.contains(.write) { mark(link) }
  }

  private mutating func accept(_ place: Int) {
    let listener = reactor.listeners[place]
    for _ in 0..<Reactor.Limits.acceptsPerWake {
      guard let socket = reactor.accept(place) else { return }
      guard serverCount < Limits.serversMax else { continue }
      if listener.files != nil, let greeter = settings.greeter {
        greeter.greet(socket, from: place, for: .peers(token: nil))
      } else if add(socket, .server, nil, isOpen: true) != nil {
        serverCount += 1
      }
    }
  }

  private mutating func read(_ link: Link) {
    for _ in 0..<Link.Limits.readsPerWake where link.isReading {
      let count: Int?
      do throws(Errno) { count = try link.read(into: &buffer) } catch {
        return broken(link, "\(error)")
      }
      guard let count else { return }
      if count == 0 { return ended(link) }
      link.readAt = now
      let bytes = buffer
      let piece = bytes.rawSpan.extracting(0..<count)
      if let sealing = link.sealing {
        guard open(link, sealing, piece) else { return }
      } else {
        take(link, piece)
        guard links[link.token] != nil else { return }
      }
      if count < buffer.count { return }
    }
  }

  /// Takes what has come on a connection, in clear.
  mutating func take(_ link: Link, _ piece: RawSpan) {
    switch link.role {
    case .server:
      if link.isFresh {
        link.isFresh = false
        if link.sealing == nil, isTLSHandshake(piece) { return refuseHandshake(link) }
      }
      link.parser.receive(piece)
      serve(link)
    case .outflow: break  // The other side has nothing to say here.
    case .inflow(let id, let channel): flow(link, piece, id, channel)
    case .client(let id): take(link, piece, id)
    }
  }

  mutating func ended(_ link: Link) {
    if case .client(let id) = link.role, link.answer.closed() {
      answered(link, id)
    }
    if links[link.token] != nil { broken(link, "closed by the other side") }
  }

  // MARK: Requests

  mutating func serve(_ link: Link) {
    defer { link.hasPausedRequests = !link.isAsking && !link.isEnding && !link.takesRequests }
    while link.takesRequests, links[link.token] != nil, case .server = link.role {
      do throws(Refusal) {
        let request = try link.parser.next()
        if link.parser.takeContinue() {
          link.output += ResponseHead.goOn
          mark(link)
        }
        guard let request else {
          if let current = link.parser.current, current.path == "/raft/snapshot" {
            return receiveSnapshot(link, current)
          }
          return
        }
        link.keepsAlive = request.keepsAlive
        do throws(PeerRefusal) { try serve(link, request) } catch {
          reply(link, PeerAnswer(error))
        }
      } catch {
        link.keepsAlive = false
        reply(link, PeerAnswer(error.status, error: error.reason))
      }
    }
  }

  func clusterHeaders(_ more: [(name: String, value: String)] = []) -> [(
    name: String, value: String
  )] {
    [(name: "X-Etcd-Cluster-ID", value: handshake.clusterText)] + more
  }

  mutating func reply(_ link: Link, _ answer: PeerAnswer) {
    var head = ResponseHead(
      status: answer.status, contentType: answer.type, keepsAlive: link.keepsAlive, isOld: false)
    head.headers = clusterHeaders()
    head.append(body: answer.body.rawSpan, isHead: false, to: &link.output)
    if !link.keepsAlive { link.isEnding = true }
    mark(link)
  }

  private mutating func serve(_ link: Link, _ request: Request) throws(PeerRefusal) {
    func only(_ method: String) throws(PeerRefusal) {
      guard request.method == method else { throw .wrongMethod }
    }
    let path = request.path
    switch path {
    case "/raft":
      try only("POST")
      try take(request)
      reply(link, PeerAnswer(204, "", []))
    case "/raft/probing":
      reply(link, PeerAnswer(200, "application/json", Probe.answer(wall: Clock.wall())))
    case "/raft/snapshot":
      // Its whole body came with its head: no snapshot is that small.
      try only("POST")
      throw .notSnapshot
    case "/version":
      try only("GET")
      let version = shared.board.withLock { $0.clusterVersion } ?? "not_decided"
      let text = "{\"etcdserver\":\"\(handshake.version)\",\"etcdcluster\":\"\(version)\"}"
      reply(link, PeerAnswer(200, "application/json", Array(text.utf8)))
    case "/members":
      try only("GET")
      let list = JSON.array(members.members.map(\.json)).encoded + [10]
      reply(link, PeerAnswer(200, "application/json", list))
    case "/leases", "/leases/internal":
      try only("POST")
      try askLease(link, request)
    case "/members/hashkv":
      try only("GET")
      try askHash(link, request)
    case "/downgrade/enabled":
      try only("GET")
      reply(
        link,
        PeerAnswer(
          200, "text/plain", Array((members.isDowngrading ? "true" : "false").utf8)))
    case _ where path.hasPrefix("/raft/stream/"):
      try only("GET")
      try openStream(link, request)
    case _ where path.hasPrefix("/members/promote/"):
      try only("POST")
      askPromotion(link, path.dropFirst("/members/promote/".count))
    default: reply(link, PeerAnswer(404, error: "404 page not found"))
    }
  }

  /// One message. etcd: `pipelineHandler`.
  private mutating func take(_ request: Request) throws(PeerRefusal) {
    try handshake.check { request.header($0) }
    let message: Message
    do throws(WireError) { message = try Message(decoding: request.body.rawSpan) } catch {
      throw .badMessage
    }
    guard !members.isRemoved(message.from) else { throw .removedSender }
    guard message.to == handshake.member else {
      throw PeerRefusal(403, "cannot process message to mismatch member")
    }
    meet(request)
    arrived.append(message)
  }

  /// A member that this one has not heard of yet is answered all the same, at the URLs that it
  /// names: it may have been added later than what has been applied here. etcd: `AddRemote`.
  private mutating func meet(_ request: Request) {
    guard let text = request.header("x-server-from"), let id = Handshake.id(text),
      NodeID(id) != handshake.member, remote(NodeID(id)) == nil, !members.isRemoved(NodeID(id)),
      acquaintances.count < PeerLimits.strangersMax,
      let urls = request.header("x-peerurls"), !urls.isEmpty
    else { return }
    acquaintances.append(
      Member(
        id: NodeID(id), name: "", peerURLs: urls.split(separator: ",").map(String.init),
        clientURLs: [], isLearner: false))
    align()
  }

  /// Turns the connection into a stream to the member that asks. etcd: `streamHandler`.
  private mutating func openStream(_ link: Link, _ request: Request) throws(PeerRefusal) {
    try handshake.check { request.header($0) }
    let (channel, from) = try handshake.stream(request.path)
    guard !members.isRemoved(from) else { throw PeerRefusal.removed }
    guard let remote = remote(from) else {
      meet(request)
      throw .unknownSender
    }
    guard request.header("x-raft-to") == Handshake.text(handshake.member.rawValue) else {
      throw .wrongReceiver
    }
    if let old = remote.outflow(channel) { close(old) }
    var head = ResponseHead(
      status: 200, contentType: "", keepsAlive: true, isOld: request.isOld)
    if request.isOld { head.keepsAlive = false }
    head.headers = clusterHeaders([(name: "X-Server-Version", value: handshake.version)])
    head.appendStreaming(to: &link.output)
    link.role = .outflow(from, channel)
    link.writer = AppendWriter()
    link.sentBytes = remote.figures.sent
    remote.outflows[channel.rawValue] = link
    remote.takesPosts = false
    activeChanged = true
    // The member is there: no use in waiting to ask for its streams.
    for place in remote.redials.indices { remote.redials[place].hurry(now) }
    mark(link)
  }

  // MARK: Snapshots

  /// A snapshot begins to come: its connection goes to a thread of its own.
  mutating func receiveSnapshot(_ link: Link, _ request: Request) {
    do throws(PeerRefusal) {
      try handshake.check { request.header($0) }
    } catch {
      link.keepsAlive = false
      return reply(link, PeerAnswer(error))
    }
    guard request.method == "POST" else {
      link.keepsAlive = false
      return reply(link, PeerAnswer(PeerRefusal.wrongMethod))
    }
    guard links.removeValue(forKey: link.token) != nil else { return }
    serverCount -= 1
    try? reactor.poller.remove(link.fd)
    courier.receive(link.release(), link.releaseParser())
  }
}
