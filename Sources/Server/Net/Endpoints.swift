internal import Basics
internal import HTTP1
internal import Platform
internal import Replica
internal import Services

/// What plain HTTP serves beside gRPC and its gateway. etcd: api/etcdhttp.
enum Endpoints {
  /// What becomes of a request on a connection of that role.
  static func task(
    _ request: Request, _ role: Listener.Role, _ settings: WebSettings, _ shared: Shared
  ) -> WebCall.Task {
    let path = request.path
    if let probe = HealthProbe(path: path, parameters(request.query)) {
      return request.method == "GET" ? .probe(probe) : .answer(.onlyGET)
    }
    if path == "/metrics" { return .answer(metrics(shared)) }
    guard role != .metrics else { return .answer(.error(404, "404 page not found")) }
    switch path {
    case "/version":
      return .answer(request.method == "GET" ? version(shared) : .onlyGET)
    case "/debug/vars":
      return .answer(request.method == "GET" ? variables(shared) : .onlyGET)
    default: break
    }
    if settings.wantsProfiler, path.hasPrefix("/debug/pprof") {
      return .answer(
        .error(501, "This server is not written in Go and has no pprof: use perf on the process."))
    }
    return .answer(.error(404, "404 page not found"))
  }

  /// The parameters of a query, with `+` and `%XX` decoded.
  static func parameters(_ query: String) -> [(name: String, value: String)] {
    query.split(separator: "&").map { part in
      let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      return (decoded(halves[0]), halves.count > 1 ? decoded(halves[1]) : "")
    }
  }

  private static func decoded(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: "%"), rest.count >= 2, let value = Hex.value(rest.prefix(2)) {
        bytes.append(UInt8(value))
        rest = rest.dropFirst(2)
      } else {
        bytes.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func version(_ shared: Shared) -> WebAnswer {
    let board = shared.board.withLock { $0 }
    let cluster = board.clusterVersion ?? board.status.version
    return .json(
      200,
      Array("{\"etcdserver\":\"\(board.status.version)\",\"etcdcluster\":\"\(cluster)\"}".utf8))
  }

  private static func metrics(_ shared: Shared) -> WebAnswer {
    WebAnswer(200, "text/plain; version=0.0.4; charset=utf-8", MetricsPage.bytes(shared))
  }

  /// The variables of Go's expvar that mean something here, and etcd's own.
  private static func variables(_ shared: Shared) -> WebAnswer {
    let board = shared.board.withLock { $0 }
    let line = JSON.array(Process.arguments.map { .string($0) }).encoded
    let leader = Hex.text(board.status.leader.rawValue)
    let member = Hex.text(board.status.member.rawValue)
    let role =
      board.status.isLeader
      ? "StateLeader"
      : board.status.isLearner
        ? "StateLearner"
        : "StateFollower"
    let body = """
      {
      "cmdline": \(String(decoding: line, as: UTF8.self)),
      "file_descriptor_limit": \(Process.descriptors().max),
      "memstats": {"Sys":\(Process.residentBytes())},
      "raft.status": {"id":"\(member)","term":\(board.status.term.rawValue),\
      "commit":\(board.status.commitIndex.rawValue),"applied":\(board.status.appliedIndex.rawValue),\
      "lead":"\(leader)","raftState":"\(role)"}
      }

      """
    return WebAnswer(200, "application/json; charset=utf-8", Array(body.utf8))
  }
}
