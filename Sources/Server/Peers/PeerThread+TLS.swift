internal import Basics
internal import Peers
internal import Platform
internal import TLS

extension PeerThread {
  /// What secures a connection that comes in; nil in clear text.
  func stream(for listener: Listener) throws(TLSError) -> TLSStream? {
    guard let context = listener.files?.contexts.server else { return nil }
    return try TLSStream.server(context)
  }

  /// What secures a call; nil in clear text, and when there is nothing to secure it with.
  func stream(to url: PeerURL) -> TLSStream? {
    guard url.isSecure, let context = settings.tls?.contexts.client else { return nil }
    return try? TLSStream.client(context, host: url.host, speaks: [.http1])
  }

  /// Reading has come to an error. What TLS has to say of it still goes out.
  mutating func failed(_ link: Link, _ failure: Link.Failure) {
    if case .tls = failure {
      _ = link.write(now: now)
      if case .server = link.role {
        complain(link, failure.text)
      } else if let held = complaints.admit(now) {
        shared.log.warn(
          "a peer cannot be called over TLS", ("remote-addr", link.peerName),
          ("url", link.url.map { "https://\($0.authority)" } ?? ""), ("error", failure.text),
          ("suppressed", String(held)))
      }
    }
    broken(link, failure.text)
  }

  func isShakingHands(_ link: Link) -> Bool { link.stream?.isOpen == false }

  /// Nothing comes from who wanted to shake hands.
  mutating func rejectSilent(_ link: Link) {
    complain(link, "TLS handshake timed out")
    close(link)
  }

  private mutating func complain(_ link: Link, _ why: String) {
    guard let held = complaints.admit(now) else { return }
    let certificate = link.stream?.peerCertificate
    shared.log.warn(
      "rejected connection on peer endpoint", ("remote-addr", link.peerName),
      ("ip-addresses", certificate?.addresses.joined(separator: ",") ?? ""),
      ("dns-names", certificate?.dnsNames.joined(separator: ",") ?? ""), ("error", why),
      ("suppressed", String(held)))
  }

  // MARK: Who calls

  /// Holds the certificate of who has called against the address it called from, before its
  /// first request is served. etcd: `checkCertSAN`.
  mutating func identify(_ link: Link) {
    guard !link.isAsking else { return }
    guard !settings.skipsNameCheck, let certificate = link.stream?.peerCertificate else {
      return named(link.token, nil)
    }
    let address = link.peerAddress
    switch certificate.check(address: address) {
    case .accepted: named(link.token, nil)
    case .refused(let why): named(link.token, why)
    case .needsLookup(let names):
      link.isAsking = true
      let box = shared.peers.box
      let token = link.token
      _ = Thread.start("resolve") {
        let own = Socket.name(of: address).map { [$0] } ?? []
        var verdict = certificate.resolved(address: address, names: own, addresses: [])
        for name in names where verdict != .accepted {
          let found = (try? Socket.addresses(of: name)) ?? []
          verdict = certificate.resolved(address: address, names: own, addresses: found)
        }
        if case .refused(let why) = verdict {
          box.post(.named(token, refusal: why))
        } else {
          box.post(.named(token, refusal: nil))
        }
      }
    }
  }

  /// The verdict on who has called.
  mutating func named(_ token: UInt64, _ refusal: String?) {
    guard let link = links[token] else { return }
    if let refusal {
      complain(link, "certificate refused: \(refusal)")
      return close(link)
    }
    link.isAsking = false
    link.isKnown = true
    serve(link)
  }
}
