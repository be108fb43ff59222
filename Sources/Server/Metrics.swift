internal import Raft
internal import Basics
internal import Services
internal import Platform
internal import Synchronization

/// A count that many threads add to.
final class Counter: Sendable {
  // Relaxed: read for display only; nothing is ordered by it.
  private let count = Atomic<Int>(0)
  func add(_ amount: Int) { count.add(amount, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

/// A histogram of durations over doubling buckets.
final class Histogram: Sendable {
  private struct State: Sendable {
    var buckets: [Int]
    var sum = 0.0
    var count = 0
  }

  let bounds: [Double]
  private let state: Lock<State>

  /// `count` bounds in seconds from `first`, each twice the one before.
  init(first: Double, count: Int) {
    var bounds: [Double] = []
    var bound = first
    for _ in 0..<count {
      bounds.append(bound)
      bound *= 2
    }
    self.bounds = bounds
    state = Lock(State(buckets: Array(repeating: 0, count: count)))
  }

  func observe(nanoseconds: UInt64) {
    let seconds = Double(nanoseconds) / 1e9
    let place = bounds.firstIndex { seconds <= $0 }
    state.withLock { state in
      if let place { state.buckets[place] += 1 }
      state.sum += seconds
      state.count += 1
    }
  }

  /// Prometheus' text form.
  func text(_ name: String, label: String = "") -> String {
    let (buckets, sum, count) = state.withLock { ($0.buckets, $0.sum, $0.count) }
    let first = label.isEmpty ? "" : label + ","
    let alone = label.isEmpty ? "" : "{\(label)}"
    var text = ""
    var total = 0
    for (bound, amount) in zip(bounds, buckets) {
      total += amount
      text += "\(name)_bucket{\(first)le=\"\(bound)\"} \(total)\n"
    }
    text += "\(name)_bucket{\(first)le=\"+Inf\"} \(count)\n"
    text += "\(name)_sum\(alone) \(sum)\n\(name)_count\(alone) \(count)\n"
    return text
  }
}

/// What the server counts; names and buckets are etcd's.
final class Metrics: Sendable {
  let walSync = Histogram(first: 0.001, count: 14)
  let backendCommit = Histogram(first: 0.001, count: 14)
  let proposalsApplied = Counter()
  let proposalsFailed = Counter()
  let receivedBytes = Counter()
  let sentBytes = Counter()
  let peers = PeerMetrics()

  /// The page of `/metrics`.
  func text(_ board: Board, startedAt: UInt64) -> String {
    var page = ""
    func family(_ name: String, _ type: String, _ help: String, _ body: String) {
      page += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(body)"
    }
    func gauge(_ name: String, _ help: String, _ value: Int) {
      family(name, "gauge", help, "\(name) \(value)\n")
    }
    func counter(_ name: String, _ help: String, _ value: Int) {
      family(name, "counter", help, "\(name) \(value)\n")
    }
    let status = board.status
    if let version = board.clusterVersion {
      let short = version.split(separator: ".").prefix(2).joined(separator: ".")
      family(
        "etcd_cluster_version", "gauge", "Which version the cluster runs at.",
        "etcd_cluster_version{cluster_version=\"\(short)\"} 1\n")
    }
    family(
      "etcd_server_version", "gauge", "Which version the server has.",
      "etcd_server_version{server_version=\"\(status.version)\"} 1\n")
    family(
      "etcd_server_id", "gauge", "The member's ID.",
      "etcd_server_id{server_id=\"\(String(status.member.rawValue, radix: 16))\"} 1\n")
    gauge("etcd_server_has_leader", "Whether there is a leader.", status.leader == .none ? 0 : 1)
    gauge("etcd_server_is_leader", "Whether this member leads.", status.isLeader ? 1 : 0)
    gauge("etcd_server_is_learner", "Whether this member learns.", status.isLearner ? 1 : 0)
    counter(
      "etcd_server_leader_changes_seen_total", "Leader changes seen.", board.leaderChanges)
    gauge(
      "etcd_server_proposals_committed_total", "Log entries committed.",
      Int(clamping: status.commitIndex.rawValue))
    gauge(
      "etcd_server_proposals_applied_total", "Log entries applied.",
      Int(clamping: status.appliedIndex.rawValue))
    counter(
      "etcd_server_proposals_failed_total", "Proposals not taken.", proposalsFailed.value)
    gauge(
      "etcd_server_quota_backend_bytes", "The store's quota.", Int(clamping: status.quotaBytes))
    gauge(
      "etcd_mvcc_db_total_size_in_bytes", "Bytes of the store's file.", status.databaseBytes)
    gauge(
      "etcd_mvcc_db_total_size_in_use_in_bytes", "Of them in use.", status.databaseBytesInUse)
    gauge("etcd_debugging_mvcc_keys_total", "Keys.", board.keyCount)
    gauge(
      "etcd_debugging_mvcc_current_revision", "The newest revision.", Int(status.revision))
    gauge(
      "etcd_debugging_mvcc_compact_revision", "The compacted revision.",
      Int(status.compactRevision))
    family(
      "etcd_disk_wal_fsync_duration_seconds", "histogram", "Syncs of the log.",
      walSync.text("etcd_disk_wal_fsync_duration_seconds"))
    family(
      "etcd_disk_backend_commit_duration_seconds", "histogram", "Commits of the store.",
      backendCommit.text("etcd_disk_backend_commit_duration_seconds"))
    counter(
      "etcd_network_client_grpc_received_bytes_total", "Bytes from clients.",
      receivedBytes.value)
    counter("etcd_network_client_grpc_sent_bytes_total", "Bytes to clients.", sentBytes.value)
    page += peers.text
    page += Self.process(startedAt)
    return page
  }

  private static func process(_ startedAt: UInt64) -> String {
    var page = ""
    func family(_ name: String, _ type: String, _ help: String, _ value: String) {
      page += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n\(name) \(value)\n"
    }
    let descriptors = Process.descriptors()
    family(
      "process_resident_memory_bytes", "gauge", "Resident memory.",
      String(Process.residentBytes()))
    family("process_open_fds", "gauge", "Open descriptors.", String(descriptors.open))
    family("process_max_fds", "gauge", "How many may be open.", String(descriptors.max))
    family(
      "process_cpu_seconds_total", "counter", "Processor time used.",
      String(Double(Process.cpuNanoseconds()) / 1e9))
    family(
      "process_start_time_seconds", "gauge", "When the process started.",
      String(Double(startedAt) / 1e9))
    return page
  }
}
