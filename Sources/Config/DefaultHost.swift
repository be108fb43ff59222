extension Options {
  /// Puts the machine's own address in the place of a default URL that is advertised while all
  /// addresses are listened on, with the port that is listened on.
  /// etcd: `UpdateDefaultClusterFromName`.
  mutating func advertiseDefaultHost(_ find: () -> String?) {
    let peer = Self.wantsHost(advertisePeer, listenPeer, port: 2380)
    let client = Self.wantsHost(advertiseClient, listenClient, port: 2379)
    guard peer || client else { return }
    guard let host = find() else {
      notes.append(
        (
          "failed to detect default host",
          (peer ? advertisePeer : advertiseClient)[0].text + " is advertised"
        ))
      return
    }
    if peer { advertisePeer = [Self.moved(advertisePeer[0], host, listenPeer[0].port)] }
    if client { advertiseClient = [Self.moved(advertiseClient[0], host, listenClient[0].port)] }
    notes.append(("detected default host for advertise", host))
  }

  private static func wantsHost(
    _ advertised: [Endpoint], _ listened: [Endpoint], port: UInt16
  ) -> Bool {
    advertised == [Endpoint(scheme: .http, host: "localhost", port: port)]
      && listened.first?.host == "0.0.0.0"
  }

  private static func moved(_ url: Endpoint, _ host: String, _ port: UInt16) -> Endpoint {
    Endpoint(scheme: url.scheme, host: host, port: port)
  }
}
