internal import Config
internal import Platform
internal import Services

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
    let clientURLs = options.listenClient + options.listenClientHTTP
    if (clientURLs + options.listenMetrics).contains(where: \.isSecure) {
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

/// A socket that is bound and not served yet.
struct Bound {
  let fd: Int32
  let endpoint: Endpoint
  let port: Listener.Port
  let role: Listener.Role

  func listener(_ security: Security) -> Listener {
    let files = port == .client ? security.client : security.peer
    return Listener(
      fd: fd, url: endpoint.text, port: port, role: role, files: endpoint.isSecure ? files : nil)
  }
}

extension Server {
  /// Binds the sockets of all URLs that are listened on.
  static func bindAll(_ options: Options) throws(StartError) -> [Bound] {
    try bind(
      options.listenClient, "listen-client-urls", .client,
      options.listenClientHTTP.isEmpty ? .all : .grpc, options)
      + bind(options.listenClientHTTP, "listen-client-http-urls", .client, .http, options)
      + bind(options.listenMetrics, "listen-metrics-urls", .client, .metrics, options)
      + bind(options.listenPeer, "listen-peer-urls", .peer, .all, options)
  }

  private static func bind(
    _ endpoints: [Endpoint], _ flag: String, _ port: Listener.Port, _ role: Listener.Role,
    _ options: Options
  ) throws(StartError) -> [Bound] {
    var bound: [Bound] = []
    for endpoint in endpoints {
      do throws(Errno) {
        let isPath = endpoint.scheme == .unix || endpoint.scheme == .unixs
        let socket =
          isPath
          ? try Socket.listen(path: "\(endpoint.host):\(endpoint.port)")
          : try Socket.listen(
            host: endpoint.host, port: endpoint.port, reusesPort: options.reusesPort)
        bound.append(Bound(fd: socket.release(), endpoint: endpoint, port: port, role: role))
      } catch {
        throw StartError("cannot listen on \(endpoint.text): \(error) [--\(flag)]")
      }
    }
    return bound
  }

  /// Starts the thread that shakes hands with clients, when a listener has TLS.
  static func startGreeter(
    _ shared: Shared, _ listeners: [Listener]
  ) throws(StartError) -> Greeter.Handle? {
    guard listeners.contains(where: { $0.files != nil }) else { return nil }
    let handle: Greeter.Handle
    do throws(Errno) {
      handle = try Greeter.Handle()
    } catch {
      throw StartError("cannot make a wake-up: \(error)")
    }
    _ = Thread.start("tls-greeter") {
      do throws(Errno) {
        let greeter = try Greeter.open(shared, handle, listeners)
        greeter.run()
      } catch {
        shared.log.fatal("the thread for handshakes could not start", ("error", "\(error)"))
      }
    }
    return handle
  }
}

extension AutoCompactor.Mode {
  /// Nil: off.
  init?(_ option: Options.AutoCompaction) {
    switch option {
    case .off: return nil
    case .periodic(let nanoseconds): self = .periodic(nanoseconds: nanoseconds)
    case .revision(let keep): self = .revision(keep: keep)
    }
  }
}
