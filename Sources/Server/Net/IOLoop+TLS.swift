internal import Basics
internal import Platform
internal import TLS

extension IOLoop {
  /// Takes over a connection whose handshake is through.
  mutating func add(_ secured: SecuredSocket, _ role: Listener.Role) {
    let name = settings.usesCommonNames ? secured.stream.peerCertificate?.commonName : nil
    let sealing = Sealing(secured, commonName: name.map { Array($0.utf8) } ?? [])
    guard let connection = add(Socket.adopting(secured.fd), role, sealing) else { return }
    mark(connection)
    guard !secured.received.isEmpty else { return }
    let bytes = secured.received
    receive(connection, bytes.rawSpan)
  }

  /// Opens what has come and takes it in. False: the connection is over, or ends.
  mutating func receiveSealed(
    _ connection: Connection, _ sealing: Sealing, _ bytes: RawSpan
  ) -> Bool {
    let count: Int
    do throws(TLSError) {
      count = try sealing.stream.receive(bytes, into: &clear)
    } catch {
      if let held = complaints.admit(connection.socket.peerAddress, error.text, now) {
        shared.log.warn(
          "a TLS connection broke", ("remote-addr", connection.socket.peerName),
          ("error", error.text), ("suppressed", String(held)))
      }
      // The alert that says why.
      _ = connection.write(shared.metrics, now: now)
      close(connection)
      return false
    }
    // There may be something to say for TLS itself.
    mark(connection)
    if count > 0 {
      let text = clear
      receive(connection, text.rawSpan.extracting(0..<count))
    }
    guard sealing.stream.hasEnded, connections[connection.token] != nil else { return true }
    ended(connection)
    return false
  }

  /// Sends away a client that speaks TLS to a listener in clear text.
  mutating func refuseHandshake(_ connection: Connection) {
    let why = "the client speaks TLS and this listener does not (its URL is http)"
    if let held = complaints.admit(connection.socket.peerAddress, why, now) {
      shared.log.warn(
        "rejected connection on client endpoint", ("remote-addr", connection.socket.peerName),
        ("error", why), ("suppressed", String(held)))
    }
    close(connection)
  }
}
