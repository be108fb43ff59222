internal import Basics
internal import Peers
internal import Platform
internal import TLS

extension PeerThread {
  // MARK: Handshakes

  /// Whether a URL's scheme can be spoken.
  mutating func canDial(_ url: PeerURL) -> Bool {
    guard url.isSecure, settings.greeter == nil else { return true }
    complain(of: url, "this member was started without TLS")
    return false
  }

  /// Gives a connection that was dialled away for its handshake.
  mutating func shakeHands(_ link: Link) {
    guard let greeter = settings.greeter, let url = link.url else { return }
    try? reactor.poller.remove(link.fd)
    greeter.greet(link.leave(), dialled: link.token, host: url.host)
  }

  /// A handshake is through.
  mutating func take(_ secured: SecuredSocket, token: UInt64?) {
    let socket = Socket.adopting(secured.fd)
    let link: Link
    if let token {
      guard let known = links[token] else { return }
      link = known
      link.comeBack(socket, now: now)
      guard (try? reactor.poller.add(link.fd, link.interest, token: token)) != nil else {
        return broken(link, "no room for the connection")
      }
    } else {
      guard serverCount < Limits.serversMax, let added = add(socket, .server, nil, isOpen: true)
      else { return }
      serverCount += 1
      link = added
    }
    link.sealing = Sealing(secured)
    mark(link)
    guard !secured.received.isEmpty else { return }
    let bytes = secured.received
    take(link, bytes.rawSpan)
  }

  /// The handshake of a connection that was dialled has failed.
  mutating func unsecured(_ token: UInt64, _ why: String) {
    guard let link = links[token] else { return }
    if let url = link.url { complain(of: url, why) }
    broken(link, why)
  }

  private mutating func complain(of url: PeerURL, _ why: String) {
    guard let held = complaints.admit(url.authority, why, now) else { return }
    shared.log.warn(
      "a peer cannot be called over TLS", ("url", url.text), ("error", why),
      ("suppressed", String(held)))
  }

  // MARK: Bytes

  /// Opens what has come and takes it in. False: the connection is over.
  mutating func open(_ link: Link, _ sealing: Sealing, _ bytes: RawSpan) -> Bool {
    let count: Int
    do throws(TLSError) {
      count = try sealing.stream.receive(bytes, into: &clear)
    } catch {
      // The alert that says why.
      _ = link.write(now: now)
      // Who was called and does not accept this member's certificate says so only now (TLS 1.3).
      if let url = link.url {
        complain(of: url, error.text)
      } else {
        refused(link, "a peer's TLS connection broke", error.text)
      }
      broken(link, error.text)
      return false
    }
    // There may be something to say for TLS itself.
    if sealing.stream.hasOutput { mark(link) }
    if count > 0 {
      let text = clear
      take(link, text.rawSpan.extracting(0..<count))
    }
    guard links[link.token] != nil else { return false }
    guard sealing.stream.hasEnded else { return true }
    ended(link)
    return false
  }

  /// Sends away who speaks TLS to a listener in clear text.
  mutating func refuseHandshake(_ link: Link) {
    refused(
      link, "rejected connection on peer endpoint",
      "the member speaks TLS and this listener does not (its URL is http)")
    close(link)
  }

  private mutating func refused(_ link: Link, _ what: String, _ why: String) {
    guard let held = complaints.admit(link.peerAddress, why, now) else { return }
    shared.log.warn(
      what, ("remote-addr", link.peerName), ("error", why), ("suppressed", String(held)))
  }
}
