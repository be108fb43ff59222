internal import Replica
internal import Services
internal import Basics
internal import Platform

/// What plain HTTP serves beside gRPC.
enum Endpoints {
  struct Answer {
    var status: Int
    var contentType: String
    var body: [UInt8]

    init(_ status: Int, _ contentType: String, _ body: String) {
      self.status = status
      self.contentType = contentType
      self.body = Array(body.utf8)
    }
  }

  static func answer(
    _ method: String, _ path: String, _ query: String, _ shared: Shared
  ) -> Answer {
    guard method == "GET" || method == "HEAD" else {
      return Answer(405, "text/plain; charset=utf-8", "Method Not Allowed\n")
    }
    let halves = path.split(separator: "?", maxSplits: 1)
    let board = shared.board.withLock { $0 }
    switch halves.first ?? "" {
    case "/version":
      let cluster = board.clusterVersion ?? board.status.version
      return Answer(
        200, "application/json",
        "{\"etcdserver\":\"\(board.status.version)\",\"etcdcluster\":\"\(cluster)\"}")
    case "/health":
      return health(board, excludes: query.isEmpty && halves.count > 1 ? String(halves[1]) : query)
    case "/metrics":
      return Answer(
        200, "text/plain; version=0.0.4; charset=utf-8",
        shared.metrics.text(board, startedAt: shared.startedAt))
    default:
      return Answer(404, "text/plain; charset=utf-8", "404 page not found\n")
    }
  }

  /// etcd: etcdserver/api/etcdhttp/metrics.go.
  private static func health(_ board: Board, excludes query: String) -> Answer {
    let excluded = query.split(separator: "&").filter { $0.hasPrefix("exclude=") }
      .map { String($0.dropFirst(8)).uppercased() }
    for alarm in board.status.alarms {
      let name = "\(alarm.kind)".uppercased()
      if !excluded.contains(name) { return unhealthy("ALARM \(name)") }
    }
    if board.status.leader == .none { return unhealthy("RAFT NO LEADER") }
    return Answer(200, "application/json", "{\"health\":\"true\",\"reason\":\"\"}")
  }

  private static func unhealthy(_ reason: String) -> Answer {
    Answer(
      503, "text/plain; charset=utf-8", "{\"health\":\"false\",\"reason\":\"\(reason)\"}\n")
  }
}
