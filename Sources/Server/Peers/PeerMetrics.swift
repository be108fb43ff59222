internal import Basics
internal import Peers
internal import Platform

/// What is counted of each other member.
final class PeerMetrics: Sendable {
  private let roundTrips = Lock<[(member: NodeID, histogram: Histogram)]>([])

  func observe(_ member: NodeID, roundTrip nanoseconds: UInt64) {
    let histogram = roundTrips.withLock { list in
      if let known = list.first(where: { $0.member == member }) { return known.histogram }
      let histogram = Histogram(first: 0.0001, count: 16)
      list.append((member, histogram))
      return histogram
    }
    histogram.observe(nanoseconds: nanoseconds)
  }

  /// Prometheus' text form.
  var text: String {
    let name = "etcd_network_peer_round_trip_time_seconds"
    let list = roundTrips.withLock { $0 }
    guard !list.isEmpty else { return "" }
    var text = "# HELP \(name) Round trips to other members.\n# TYPE \(name) histogram\n"
    for (member, histogram) in list {
      let label = "To=\"\(Handshake.text(member.rawValue))\""
      text += histogram.text(name, label: label)
    }
    return text
  }
}
