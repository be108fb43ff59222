internal import Basics
internal import Peers
internal import Platform

/// What is counted of one other member.
final class PeerFigures: Sendable {
  let roundTrips = Histogram(first: 0.0001, count: 16)
  let sent = Counter()
  let received = Counter()
  let failures = Counter()
  let receiveFailures = Counter()
  /// 1 while messages go to and fro.
  let active = Counter()
  let losses = Counter()
  let snapshotsSent = SnapshotFigures()
  let snapshotsReceived = SnapshotFigures()
}

/// What is counted of snapshots to a member, or from it.
final class SnapshotFigures: Sendable {
  let inFlight = Counter()
  let successes = Counter()
  let failures = Counter()
  let times = Histogram(first: 0.1, count: 10)

  /// Counts a transfer that began at `start` (monotonic ns) and is over.
  func ended(since start: UInt64, isWhole: Bool) {
    inFlight.add(-1)
    guard isWhole else { return failures.add(1) }
    successes.add(1)
    times.observe(nanoseconds: Clock.monotonic() - start)
  }
}

/// What is counted of each other member.
final class PeerMetrics: Sendable {
  /// Members that are counted. Who is a member is not known to all that count.
  private static let membersMax = 256
  private let all = Lock<[(member: NodeID, figures: PeerFigures)]>([])

  func figures(of member: NodeID) -> PeerFigures {
    all.withLock { list in
      if let known = list.first(where: { $0.member == member }) { return known.figures }
      let figures = PeerFigures()
      if list.count < Self.membersMax { list.append((member, figures)) }
      return figures
    }
  }

  /// Each other member and what is counted of it.
  var list: [(member: NodeID, figures: PeerFigures)] { all.withLock { $0 } }
}

extension MetricsPage {
  mutating func addPeers(_ peers: PeerMetrics, of own: NodeID) {
    let list = peers.list
    guard !list.isEmpty else { return }
    counters(
      list, "etcd_network_peer_sent_bytes_total", "To", "Bytes to other members."
    ) { $0.sent.value }
    counters(
      list, "etcd_network_peer_received_bytes_total", "From", "Bytes from other members."
    ) { $0.received.value }
    counters(
      list, "etcd_network_peer_sent_failures_total", "To", "Messages that could not be sent."
    ) { $0.failures.value }
    counters(
      list, "etcd_network_peer_received_failures_total", "From", "What came and was no message."
    ) { $0.receiveFailures.value }
    histograms(
      list, "etcd_network_peer_round_trip_time_seconds", "To", "Round trips to other members."
    ) { $0.roundTrips }
    let local = Handshake.text(own.rawValue)
    family("etcd_network_active_peers", "gauge", "Members that messages go to.")
    for (member, figures) in list {
      let labels = "{Local=\"\(local)\",Remote=\"\(Handshake.text(member.rawValue))\"}"
      sample("etcd_network_active_peers", labels, figures.active.value)
    }
    family("etcd_network_disconnected_peers_total", "counter", "Losses of another member.")
    for (member, figures) in list {
      let labels = "{Local=\"\(local)\",Remote=\"\(Handshake.text(member.rawValue))\"}"
      sample("etcd_network_disconnected_peers_total", labels, figures.losses.value)
    }
    addSnapshots(list, "send", "To") { $0.snapshotsSent }
    addSnapshots(list, "receive", "From") { $0.snapshotsReceived }
  }

  private mutating func addSnapshots(
    _ list: [(member: NodeID, figures: PeerFigures)], _ verb: String, _ label: String,
    _ figures: (PeerFigures) -> SnapshotFigures
  ) {
    let name = "etcd_network_snapshot_\(verb)"
    counters(
      list, name + "_inflights_total", label, "Snapshots on their way.", type: "gauge"
    ) { figures($0).inFlight.value }
    counters(list, name + "_success", label, "Snapshots that arrived.") {
      figures($0).successes.value
    }
    counters(list, name + "_failures", label, "Snapshots that did not.") {
      figures($0).failures.value
    }
    histograms(
      list, name + "_total_duration_seconds", label, "How long snapshots were on their way."
    ) { figures($0).times }
  }

  private mutating func histograms(
    _ list: [(member: NodeID, figures: PeerFigures)], _ name: String, _ label: String,
    _ help: String, _ histogram: (PeerFigures) -> Histogram
  ) {
    family(name, "histogram", help)
    for (member, figures) in list {
      let histogram = histogram(figures)
      let state = histogram.current
      samples(
        name, "\(label)=\"\(Handshake.text(member.rawValue))\",", histogram.bounds,
        state.buckets, sum: state.sum, count: state.count)
    }
  }

  private mutating func counters(
    _ list: [(member: NodeID, figures: PeerFigures)], _ name: String, _ label: String,
    _ help: String, type: String = "counter", _ value: (PeerFigures) -> Int
  ) {
    family(name, type, help)
    for (member, figures) in list {
      sample(name, "{\(label)=\"\(Handshake.text(member.rawValue))\"}", value(figures))
    }
  }
}
