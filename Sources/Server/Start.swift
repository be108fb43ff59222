internal import API
internal import Basics
internal import Bcrypt
public import Config
internal import Gateway
internal import HTTP2
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import TLS
internal import WAL

/// A whole server: recovers what the data directory holds, starts the threads and serves until
/// SIGTERM or SIGINT.
public enum Server {
  /// etcd's version whose behaviour is spoken, and ours.
  public static let etcdVersion = "3.5.21"
  public static let version = "0.1.0"

  /// Serves until told to stop. Throws when it cannot start; nothing was changed then but what a
  /// new data directory needs.
  public static func run(_ options: Options) throws(StartError) {
    let startedAt = Clock.monotonic()
    Process.raiseDescriptorLimit()
    let signals: Int32
    do throws(Errno) {
      // Before any thread starts: each inherits that the signals are blocked.
      signals = try Process.stopSignals()
    } catch {
      throw StartError("signals: \(error)")
    }
    let log = try Logger(options.log)
    defer { log.flush() }
    do throws(StartError) {
      try run(options, log, signals, startedAt)
    } catch {
      if !log.isOnStandardError { log.error("the server could not start", ("error", error.text)) }
      throw error
    }
  }

  private static func run(
    _ options: Options, _ log: Logger, _ signals: Int32, _ startedAt: UInt64
  ) throws(StartError) {
    for flag in options.ignored {
      log.warn("this flag is understood and does nothing here yet", ("flag", "--\(flag)"))
    }
    for note in options.notes { log.warn(note.message, ("subject", note.subject)) }
    let provider = try TokenProvider(options, log)
    var listeners = try listenToClients(options)
    var peers = try listen(options, options.listenPeer, "listen-peer-urls", .all)
    // What cannot be used is found before anything is written.
    let given = Security.needsFolder(options) ? nil : try Security(options, log)
    let directory = try DataDirectory(options)
    let security: Security
    if let given { security = given } else { security = try Security(options, log) }
    for place in listeners.indices where listeners[place].isSecure {
      listeners[place].files = security.client
    }
    for place in peers.indices where peers[place].isSecure { peers[place].files = security.peer }
    let recovered = try Recovery(options, directory, security.peer, log)
    let shared = try share(options, recovered, log)
    if options.corruption.checksAtStart, recovered.hasRun {
      try InitialCheck(shared, options, security.peer).run()
    }
    // What the io loops' watch hubs start from: events that come later follow it without a gap.
    let status = shared.board.withLock { $0.status }
    let threads = recovered.startThreads(options, shared)
    startPasswordThreads(options, shared, provider)
    try startPeers(options, recovered, shared, peers, security.peer)
    try startLoops(options, shared, status, listeners, provider)
    notifyReady(shared, startedAt)
    let signal = Process.nextSignal(signals)
    log.info("stopping", ("signal", String(signal)))
    _ = try? Supervisor.tell("STOPPING=1")
    handOver(shared, options)
    stop(shared, threads)
  }

  private static func listenToClients(_ options: Options) throws(StartError) -> [Listener] {
    let http = options.http
    return try listen(
      options, options.listenClient, "listen-client-urls", http.listenHTTP.isEmpty ? .all : .grpc)
      + listen(options, http.listenHTTP, "listen-client-http-urls", .http)
      + listen(options, http.listenMetrics, "listen-metrics-urls", .metrics)
  }

  private static func share(
    _ options: Options, _ recovered: Recovery, _ log: Logger
  ) throws(StartError) -> Shared {
    var status = MemberStatus(
      member: recovered.identity.member, cluster: recovered.identity.cluster)
    status.version = etcdVersion
    status.quotaBytes = options.quotaBytes
    status.revision = recovered.revision
    status.compactRevision = recovered.compactRevision
    let sizes = recovered.backend.sizes()
    status.databaseBytes = sizes.total
    status.databaseBytesInUse = sizes.inUse
    var loops: [LoopHandle] = []
    let peers: PeerHandle
    do throws(Errno) {
      // One number is the peer thread's.
      for _ in 0..<min(Process.processorCount, RequestIDs.loopsMax - 1) {
        loops.append(try LoopHandle())
      }
      peers = try PeerHandle()
    } catch {
      throw StartError("cannot make a wake-up: \(error)")
    }
    return Shared(
      replica: recovered.takeReplica(), backend: recovered.backend, board: Board(status: status),
      log: log,
      loops: loops, peers: peers, opening: recovered.opening,
      snapshotFiles: recovered.snapshotFiles)
  }

  private static func startPasswordThreads(
    _ options: Options, _ shared: Shared, _ provider: TokenProvider
  ) {
    var cost = options.bcryptCost
    if !Bcrypt.costs.contains(cost) {
      shared.log.warn(
        "use default bcrypt cost instead of the invalid given cost",
        ("given-cost", String(cost)), ("default-cost", String(Bcrypt.standardCost)))
      cost = Bcrypt.standardCost
    }
    for number in shared.passwords.indices {
      let cost = cost
      Thread.detach("password-\(number)") {
        PasswordThread(shared: shared, number: number, cost: cost, provider: provider).run()
      }
    }
  }

  private static func startLoops(
    _ options: Options, _ shared: Shared, _ status: MemberStatus, _ listeners: [Listener],
    _ provider: TokenProvider
  ) throws(StartError) {
    let limits = Limits(options)
    let settings = IOLoop.Settings(
      messageBytesMax: limits.messageBytesMax,
      session: Session.Settings(
        streamsMax: options.streamsPerConnectionMax,
        pingIntervalMin: options.keepaliveMinNanoseconds),
      keepaliveInterval: options.keepaliveIntervalNanoseconds,
      keepaliveTimeout: options.keepaliveTimeoutNanoseconds,
      web: WebSettings(
        access: Access(origins: options.http.origins, hosts: options.http.hosts),
        hasGateway: options.http.hasGateway, wantsProfiler: options.http.wantsProfiler,
        // Base64 makes bytes a third longer.
        bodyBytesMax: 2 * limits.messageBytesMax),
      greeter: try startGreeter(shared, Greeter.Settings(side: .client, listeners: listeners)),
      usesCommonNames: options.clientTLS.clientCertAuth)
    for number in shared.loops.indices {
      let seed = Clock.wall() &+ UInt64(number) &* 0x9e37_79b9
      let listeners = number == 0 ? listeners : []
      let timesCalls = options.http.hasCallHistograms
      Thread.detach("io-\(number)") {
        var services = Services<LMDBBackend>(
          status: status, limits: limits, loop: number,
          startMilliseconds: Clock.wall() / 1_000_000, seed: seed, digest: sha1,
          tokens: provider.settings)
        if timesCalls { services.timeCalls() }
        do {
          let loop = try IOLoop.open(
            number: number, shared: shared, settings: settings, services: services,
            reader: try shared.backend.makeReader(), listeners: listeners)
          loop.run()
        } catch {
          shared.log.fatal("an io thread could not start", ("error", "\(error)"))
        }
      }
    }
  }

  private static func notifyReady(_ shared: Shared, _ startedAt: UInt64) {
    let status = shared.board.withLock { $0.status }
    shared.log.info(
      "started", ("local-member-id", Hex.text(status.member.rawValue)),
      ("cluster-id", Hex.text(status.cluster.rawValue)),
      ("version", etcdVersion), ("martlet", version),
      ("took", "\((Clock.monotonic() - startedAt) / 1000)us"))
  }

  /// Lets the io loops take leave of their clients, then what is on its way reach the log and
  /// the store.
  private static func stop(_ shared: Shared, _ threads: Recovery.Threads) {
    for loop in shared.loops { loop.box.post(.stop) }
    let deadline = Clock.monotonic() + 2 * IOLoop.Limits.stopNanoseconds
    for loop in shared.loops { loop.stopped.wait(until: deadline, { $0 }, { _ in }) }
    shared.wal.post(.stop)
    threads.wal.join()
    shared.apply.post(.stop)
    threads.apply.join()
    threads.store.join()
  }
}
