internal import API
internal import Basics
internal import HTTP1
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import TLS

/// A request of another member that waits for the apply thread.
struct Question {
  enum Kind {
    case renew
    case timeToLive
    case hash
    /// This member's own, for a comparison.
    case ownHash
    case promote
  }
  var token: UInt64
  var kind: Kind
}

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
    if event.token == Self.wakeToken { return }
    if event.token >= Self.listenerTokens {
      accept(settings.listeners[Int(event.token - Self.listenerTokens)])
      return
    }
    guard let link = links[event.token] else { return }
    if !link.isOpen {
      if let failure = link.failure { return broken(link, "\(failure)") }
      link.isOpen = true
      mark(link)
      return
    }
    if !event.ready.isDisjoint(with: [.read, .hangUp, .error]) { read(link) }
    if event.ready.contains(.write) { mark(link) }
  }

  private mutating func accept(_ listener: Listener) {
    while true {
      let socket: Socket?
      do throws(Errno) { socket = try Socket.accept(on: listener.fd) } catch {
        shared.log.warn("a peer's connection could not be accepted", ("error", "\(error)"))
        return
      }
      guard let socket else { return }
      guard serverCount < Limits.serversMax else { continue }
      let stream: TLSStream?
      do throws(TLSError) { stream = try self.stream(for: listener) } catch {
        shared.log.error("a TLS connection could not be made", ("error", error.text))
        continue
      }
      if add(socket, .server, nil, stream, isOpen: true) != nil { serverCount += 1 }
    }
  }

  private mutating func read(_ link: Link) {
    for _ in 0..<Link.Limits.readsPerWake {
      let count: Int?
      do throws(Link.Failure) { count = try link.read(into: &buffer, raw: &raw) } catch {
        return failed(link, error)
      }
      if link.stream != nil { mark(link) }
      guard let count else { return }
      if count == 0 { return ended(link) }
      link.readAt = now
      let bytes = buffer
      let piece = bytes.rawSpan.extracting(0..<count)
      switch link.role {
      case .server:
        link.parser.receive(piece)
        if link.isKnown { serve(link) } else { identify(link) }
      case .outflow: break  // The other side has nothing to say here.
      case .inflow(let id, let channel): flow(link, piece, id, channel)
      case .client(let id): take(link, piece, id)
      }
      guard links[link.token] != nil else { return }
      if count < buffer.count { return }
    }
  }

  private mutating func ended(_ link: Link) {
    if case .client(let id) = link.role, link.answer.closed() {
      answered(link, id)
    }
    if links[link.token] != nil { broken(link, "closed by the other side") }
  }

  // MARK: Requests

  mutating func serve(_ link: Link) {
    while !link.isAsking, links[link.token] != nil, case .server = link.role {
      do throws(Refusal) {
        let request = try link.parser.next()
        if link.parser.takeContinue() {
          link.output += [UInt8]("HTTP/1.1 100 Continue\r\n\r\n")
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
    activeChanged = true
    // The member is there: no use in waiting to ask for its streams.
    for place in remote.redials.indices { remote.redials[place].hurry(now) }
    mark(link)
  }

  // MARK: Questions for the apply thread

  mutating func ask(_ link: Link, _ question: Question.Kind, _ kind: Query.Kind) {
    let query = Query(id: ids.next(), kind: kind)
    questions[query.id] = Question(token: link.token, kind: question)
    link.isAsking = true
    switch question {
    case .renew, .timeToLive: shared.raft.post(.questions([query]))
    case .hash, .ownHash, .promote: shared.apply.post(.queries([query]))
    }
  }

  /// etcd: lease/leasehttp.
  private mutating func askLease(_ link: Link, _ request: Request) throws(PeerRefusal) {
    let malformed = PeerRefusal(400, "error unmarshalling request")
    let bytes = request.body.rawSpan
    do {
      if request.path == "/leases" {
        let numbers = try Numbers(of: bytes)
        ask(link, .renew, .keepAlive(LeaseID(numbers.signed(1))))
        return
      }
      var reader = ProtoReader(bytes)
      while let tag = try reader.nextTag() {
        guard tag.field == 1 else {
          try reader.skip(tag)
          continue
        }
        let numbers = try Numbers(bytes, in: try reader.bytes(tag))
        ask(
          link, .timeToLive,
          .timeToLive(LeaseID(numbers.signed(1)), withKeys: numbers[2] != 0))
        return
      }
    } catch {
      throw malformed
    }
    throw malformed
  }

  private mutating func askPromotion(_ link: Link, _ text: Substring) {
    guard let number = UInt64(text) else {
      return reply(link, PeerAnswer(404, error: "member \(text) not found in cluster"))
    }
    let id = NodeID(number)
    let status = shared.board.withLock { $0.status }
    guard status.isLeader, let progress = status.progress.first(where: { $0.member == id }) else {
      return reply(link, PeerAnswer(404, error: "membership: ID not found"))
    }
    guard progress.isReady else {
      return reply(link, PeerAnswer(412, error: PeerTexts.learnerNotReady))
    }
    ask(link, .promote, .change(.promote(id), isHealthy: true))
  }

  /// Hands the apply thread's answers on.
  mutating func answer(_ batch: CompletionBatch) {
    for item in batch.items {
      guard let question = questions.removeValue(forKey: item.id) else { continue }
      if question.kind == .ownHash { hashed(item, batch) }
      guard let link = links[question.token] else { continue }
      link.isAsking = false
      if question.kind == .hash {
        reply(link, hashAnswer(item, batch))
      } else if let failure = item.failure {
        reply(link, PeerAnswer(question.kind, failure))
      } else {
        let payload = batch.arena.rawSpan.extracting(item.payload).copied()
        reply(link, answer(question.kind, payload))
      }
      serve(link)
    }
  }

  private func answer(_ kind: Question.Kind, _ payload: [UInt8]) -> PeerAnswer {
    switch kind {
    case .renew:
      // A lease that is gone is answered with no TTL to clients, with 404 to members.
      guard let numbers = try? Numbers(of: payload.rawSpan), numbers.signed(3) > 0 else {
        return PeerAnswer(404, error: PeerTexts.leaseNotFound)
      }
      return PeerAnswer(200, "application/protobuf", payload)
    case .timeToLive:
      guard let numbers = try? Numbers(of: payload.rawSpan), numbers.signed(4) > 0 else {
        return PeerAnswer(404, error: PeerTexts.leaseNotFound)
      }
      var bytes: [UInt8] = []
      bytes.appendField(1, payload.rawSpan)
      return PeerAnswer(200, "application/protobuf", bytes)
    case .promote, .hash, .ownHash:
      return PeerAnswer(
        200, "application/json", JSON.array(members.members.map(\.json)).encoded + [10])
    }
  }
}

/// Texts by which members tell refusals apart.
enum PeerTexts {
  static let leaseNotFound = "lease not found"
  static let notPrimary = "not a primary lessor"
  static let learnerNotReady = Failure.learnerNotReady.text
  static let notLearner = "membership: can only promote a learner member"
}

extension PeerAnswer {
  init(_ kind: Question.Kind, _ failure: Failure) {
    switch failure {
    case .leaseNotFound: self.init(404, error: PeerTexts.leaseNotFound)
    case .memberNotFound: self.init(404, error: "membership: ID not found")
    case .memberNotLearner: self.init(412, error: PeerTexts.notLearner)
    default: self.init(kind == .promote ? 500 : 400, error: failure.text)
    }
  }
}

extension PeerThread {
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
    try? poller.remove(link.fd)
    let (fd, stream, unsent) = link.release()
    courier.receive(
      Courier.Incoming(fd: fd, stream: stream, unsent: unsent), link.releaseParser())
  }
}
