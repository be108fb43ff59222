internal import Basics
internal import Config
internal import Membership
internal import Peers
internal import Platform
internal import Services

extension Server {
  /// Starts the thread that speaks with the other members.
  static func startPeers(
    _ options: Options, _ recovered: Recovery, _ shared: Shared, _ listeners: [Listener],
    _ tls: TLSFiles?
  ) throws(StartError) {
    let identity = recovered.identity
    let settings = PeerThread.Settings(
      handshake: Handshake(
        member: identity.member, cluster: identity.cluster, version: etcdVersion,
        peerURLs: options.advertisePeer.map(\.text)),
      listeners: listeners,
      greeter: try startGreeter(
        shared,
        Greeter.Settings(
          side: .peer, listeners: listeners, dials: tls,
          checksNames: !options.peerTLS.skipsNameCheck)),
      members: recovered.members, acquaintances: identity.acquaintances,
      startMilliseconds: Clock.wall() / 1_000_000,
      forwardNanoseconds: options.requestNanoseconds,
      courier: Courier.Settings(
        directory: recovered.snapshotFiles.directory, syncs: options.syncsToDisk, tls: tls),
      corruption: CorruptionMonitor.Settings(options))
    Thread.detach("peers") {
      do throws(Errno) {
        try PeerThread.open(shared, settings).run()
      } catch {
        shared.log.fatal("the peer thread could not start", ("error", "\(error)"))
      }
    }
  }

  /// A leader that stops hands its leadership over first, to the member that has been reachable
  /// for longest, so that nobody waits for an election. etcd: `TransferLeadership`.
  static func handOver(_ shared: Shared, _ options: Options) {
    let status = shared.board.withLock { $0.status }
    guard status.isLeader else { return }
    var best: (member: NodeID, since: UInt64)?
    for voter in status.voters {
      guard let since = status.activeSince[voter], since < best?.since ?? .max else { continue }
      best = (voter, since)
    }
    guard let best else { return }
    shared.log.info("leadership transfer starting", ("to", Handshake.text(best.member.rawValue)))
    shared.raft.post(.transfer(best.member))
    let deadline = Clock.monotonic() + options.requestNanoseconds
    while Clock.monotonic() < deadline {
      let leader = shared.board.withLock { $0.status.leader }
      if leader != status.member, leader != .none { return }
      Process.pause(milliseconds: 10)
    }
    shared.log.warn("leadership transfer failed")
  }
}
