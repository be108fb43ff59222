internal import Replica
internal import Services

// What the io loops count: calls, reads, watchers.
extension MetricsPage {
  mutating func addLoops(_ reports: [LoopReport], _ board: Board, _ metrics: Metrics) {
    let tallies = reports.map(\.tally)
    func sum(_ field: (Tally) -> Int) -> Int { tallies.reduce(0) { $0 + field($1) } }
    gauge("etcd_server_proposals_pending", "Requests that wait for the log.", sum(\.pending))
    counter(
      "etcd_server_proposals_failed_total", "Proposals not taken, or not answered in time.",
      metrics.proposalsFailed.value + sum(\.proposalsFailed))
    counter(
      "etcd_server_read_indexes_failed_total", "Read indexes not got in time.",
      sum(\.readIndexesFailed))
    counter(
      "etcd_server_slow_read_indexes_total", "Read indexes asked for again.",
      sum(\.readIndexesRetried))
    counter(
      "etcd_server_learner_promote_successes", "Learners promoted.", sum(\.learnersPromoted))
    if sum(\.learnersNotReady) > 0 {
      family("etcd_server_learner_promote_failures", "counter", "Learners not promoted.")
      sample(
        "etcd_server_learner_promote_failures", "{Reason=\"\(Failure.learnerNotReady.text)\"}",
        sum(\.learnersNotReady))
    }
    let ranges = board.applied.ranges + sum(\.ranges)
    counter("etcd_mvcc_range_total", "Ranges read.", ranges)
    counter("etcd_debugging_mvcc_range_total", "Ranges read.", ranges)
    counter(
      "etcd_mvcc_txn_total", "Transactions of several operations.",
      board.applied.txns + sum(\.txns))
    counter("etcd_debugging_mvcc_events_total", "Events sent to watchers.", sum(\.events))
    gauge(
      "etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent.",
      sum(\.pendingEvents))
    gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.", sum(\.watchStreams))
    gauge("etcd_debugging_mvcc_watcher_total", "Watchers.", sum(\.watchers))
    gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers behind.", sum(\.slowWatchers))
    gauge(
      "etcd_mvcc_db_open_read_transactions", "Read transactions of the store.", reports.count)
    counter(
      "etcd_network_client_grpc_received_bytes_total", "Bytes from clients.",
      metrics.receivedBytes.value)
    counter(
      "etcd_network_client_grpc_sent_bytes_total", "Bytes to clients.", metrics.sentBytes.value)
    addClients(reports)
    addCalls(tallies)
  }

  private mutating func addClients(_ reports: [LoopReport]) {
    var clients = ClientVersions()
    for report in reports { clients.add(report.clients) }
    let name = "etcd_server_client_requests_total"
    family(name, "counter", "Calls by the version of the client.")
    for entry in clients.entries {
      for (type, count) in [("stream", entry.streams), ("unary", entry.unary)] where count > 0 {
        sample(name, "{client_api_version=\"\(entry.version)\",type=\"\(type)\"}", count)
      }
    }
  }

  // MARK: Calls

  private static let codes = [
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound",
    "AlreadyExists", "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted",
    "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
  ]

  private mutating func addCalls(_ tallies: [Tally]) {
    func sum(_ field: (Tally) -> Int) -> Int { tallies.reduce(0) { $0 + field($1) } }
    let methods = Method.allCases.map { ($0, Self.labels($0)) }
    let families: [(String, String, (Tally) -> [Int])] = [
      ("grpc_server_started_total", "Calls begun.", { $0.started }),
      ("grpc_server_msg_received_total", "Messages received.", { $0.received }),
      ("grpc_server_msg_sent_total", "Messages sent.", { $0.sent }),
    ]
    for (name, help, field) in families {
      family(name, "counter", help)
      for (method, labels) in methods {
        sample(name, "{\(labels)}", sum { field($0)[Int(method.rawValue)] })
      }
    }
    family("grpc_server_handled_total", "counter", "Calls ended.")
    for (method, labels) in methods {
      for (code, name) in Self.codes.enumerated() {
        let place = Int(method.rawValue) * Tally.codeCount + code
        sample(
          "grpc_server_handled_total", "{grpc_code=\"\(name)\",\(labels)}",
          sum { $0.handled[place] })
      }
    }
    if tallies.contains(where: { !$0.times.isEmpty }) { addTimes(tallies, methods) }
  }

  /// etcd: `--metrics=extensive`.
  private mutating func addTimes(_ tallies: [Tally], _ methods: [(Method, String)]) {
    let name = "grpc_server_handling_seconds"
    let bounds = Tally.timeBounds.map { Double($0) / 1e9 }
    family(name, "histogram", "How long calls took.")
    for (method, labels) in methods {
      let first = Int(method.rawValue) * (bounds.count + 1)
      let buckets = (0...bounds.count).map { bucket in
        tallies.reduce(0) { $0 + $1.times[first + bucket] }
      }
      let count = buckets.reduce(0, +)
      guard count > 0 else { continue }
      let sum = tallies.reduce(0.0) { $0 + Double($1.timeSums[Int(method.rawValue)]) / 1e9 }
      samples(name, labels + ",", bounds, buckets, sum: sum, count: count)
    }
  }

  private static func labels(_ method: Method) -> String {
    let parts = "\(method.path)".dropFirst().split(separator: "/")
    let type =
      method.isClientStreaming
      ? "bidi_stream" : method.isServerStreaming ? "server_stream" : "unary"
    return "grpc_method=\"\(parts[1])\",grpc_service=\"\(parts[0])\",grpc_type=\"\(type)\""
  }
}
