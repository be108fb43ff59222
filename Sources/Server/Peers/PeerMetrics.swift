internal import Basics
internal import Peers
internal import Platform

/// What is counted of one other member.
final class PeerFigures: Sendable {
  let roundTrips = Histogram(first: 0.0001, count: 16)
  let sent = Counter()
  let received = Counter()
  let failures = Counter()
}

/// What is counted of each other member.
final class PeerMetrics: Sendable {
  private let all = Lock<[(member: NodeID, figures: PeerFigures)]>([])

  func figures(of member: NodeID) -> PeerFigures {
    all.withLock { list in
      if let known = list.first(where: { $0.member == member }) { return known.figures }
      let figures = PeerFigures()
      list.append((member, figures))
      return figures
    }
  }

  /// Each other member and what is counted of it.
  var list: [(member: NodeID, figures: PeerFigures)] { all.withLock { $0 } }
}

extension MetricsPage {
  mutating func addPeers(_ peers: PeerMetrics) {
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
    let name = "etcd_network_peer_round_trip_time_seconds"
    family(name, "histogram", "Round trips to other members.")
    for (member, figures) in list {
      let state = figures.roundTrips.current
      samples(
        name, "To=\"\(Handshake.text(member.rawValue))\",", figures.roundTrips.bounds,
        state.buckets, sum: state.sum, count: state.count)
    }
  }

  private mutating func counters(
    _ list: [(member: NodeID, figures: PeerFigures)], _ name: String, _ label: String,
    _ help: String, _ value: (PeerFigures) -> Int
  ) {
    family(name, "counter", help)
    for (member, figures) in list {
      sample(name, "{\(label)=\"\(Handshake.text(member.rawValue))\"}", value(figures))
    }
  }
}
