internal import Config
internal import Platform

/// What secures the two ports.
struct Security: Sendable {
  /// Nil while no URL of clients has TLS.
  var client: TLSFiles?
  /// Nil while neither this member's peer URLs nor another's have TLS.
  var peer: TLSFiles?

  /// Whether it has to be made in the data directory.
  static func needsFolder(_ options: Options) -> Bool {
    (options.clientTLS.isAutomatic && options.clientTLS.isEmpty)
      || (options.peerTLS.isAutomatic && options.peerTLS.isEmpty)
  }

  init(_ options: Options, _ log: Logger) throws(StartError) {
    let clientURLs = options.listenClient + options.http.listenHTTP
    if (clientURLs + options.http.listenMetrics).contains(where: \.isSecure) {
      let tls = try options.clientTLS.withCertificate(
        options.dataDirectory, port: "client", hosts: clientURLs.map(\.host),
        years: options.selfSignedYears, log)
      client = try TLSFiles(tls, port: "client")
    }
    let others = options.initialCluster.flatMap(\.peerURLs)
    if !options.peerTLS.isEmpty || options.peerTLS.isAutomatic
      || !options.peerTLS.trustedCAFile.isEmpty
      || others.contains(where: { $0.hasPrefix("https:") || $0.hasPrefix("unixs:") })
    {
      let tls = try options.peerTLS.withCertificate(
        options.dataDirectory, port: "peer", hosts: options.listenPeer.map(\.host),
        years: options.selfSignedYears, log)
      peer = try TLSFiles(tls, port: "peer")
    }
    TLSFiles.watch([client, peer].compactMap { $0 }, log)
  }
}

extension Server {
  /// Binds the sockets of `endpoints`; what secures them comes later.
  static func listen(
    _ options: Options, _ endpoints: [Endpoint], _ flag: String, _ role: Listener.Role
  ) throws(StartError) -> [Listener] {
    var bound: [Listener] = []
    for endpoint in endpoints {
      do throws(Errno) {
        let isPath = endpoint.scheme == .unix || endpoint.scheme == .unixs
        let socket =
          isPath
          ? try Socket.listen(path: "\(endpoint.host):\(endpoint.port)")
          : try Socket.listen(
            host: endpoint.host, port: endpoint.port, reusesPort: options.reusesPort)
        bound.append(
          Listener(
            fd: socket.release(), role: role, url: endpoint.text, isSecure: endpoint.isSecure))
      } catch {
        throw StartError("cannot listen on \(endpoint.text): \(error) [--\(flag)]")
      }
    }
    return bound
  }

  /// Starts the thread that shakes hands with clients or members; nil when there are none whom TLS
  /// is spoken with.
  static func startGreeter(
    _ shared: Shared, _ settings: Greeter.Settings
  ) throws(StartError) -> Greeter.Handle? {
    let isNeeded = settings.dials != nil || settings.listeners.contains { $0.files != nil }
    guard isNeeded else { return nil }
    let handle: Greeter.Handle
    do throws(Errno) {
      handle = try Greeter.Handle(settings.side)
    } catch {
      throw StartError("cannot make a wake-up: \(error)")
    }
    Thread.detach("tls-\(settings.side.rawValue)s") {
      do throws(Errno) {
        let greeter = try Greeter.open(shared, handle, settings)
        greeter.run()
      } catch {
        shared.log.fatal("the thread for handshakes could not start", ("error", "\(error)"))
      }
    }
    return handle
  }
}
