internal import Basics
internal import Platform
internal import Replica
internal import Services

/// A page and until when it may be shown, in monotonic nanoseconds.
struct KeptPage: Sendable {
  var bytes: [UInt8] = []
  var until: UInt64 = 0
}

/// The page of `/metrics` in Prometheus' text form; names, types, labels and buckets are etcd's.
struct MetricsPage {
  private(set) var bytes: [UInt8] = []

  /// A page is kept for as long as the loops take to report anew, in nanoseconds.
  private static let lifetime: UInt64 = 100_000_000

  /// The page, made now or a moment ago.
  static func bytes(_ shared: Shared) -> [UInt8] {
    shared.metrics.scrapes.add(1)
    let now = Clock.monotonic()
    let kept = shared.metrics.page.withLock { $0 }
    if now < kept.until { return kept.bytes }
    let bytes = make(shared)
    shared.metrics.page.withLock { $0 = KeptPage(bytes: bytes, until: now + lifetime) }
    return bytes
  }

  private static func make(_ shared: Shared) -> [UInt8] {
    let board = shared.board.withLock { $0 }
    var page = MetricsPage()
    page.bytes.reserveCapacity(128 << 10)
    page.addServer(board, shared.metrics)
    page.addStore(board, shared.metrics)
    page.addDisk(shared.metrics)
    page.addLoops(shared.loops.map { $0.report.withLock { $0 } }, board, shared.metrics)
    page.addPeers(shared.metrics.peers, of: board.status.member)
    page.addProcess(startedAt: shared.startedAt, shared.metrics)
    page.counter(
      "martlet_log_lines_dropped_total", "Lines of the log that were not taken in time.",
      shared.log.dropped)
    return page.bytes
  }

  // MARK: Text

  private mutating func add(_ text: String) { bytes += Array(text.utf8) }

  mutating func family(_ name: String, _ type: String, _ help: String) {
    add("# HELP \(name) \(help)\n# TYPE \(name) \(type)\n")
  }

  /// One value; `labels` with their braces, or empty.
  mutating func sample(_ name: String, _ labels: String, _ value: Int) {
    add("\(name)\(labels) \(value)\n")
  }

  mutating func gauge(_ name: String, _ help: String, _ value: Int) {
    family(name, "gauge", help)
    sample(name, "", value)
  }

  mutating func counter(_ name: String, _ help: String, _ value: Int) {
    family(name, "counter", help)
    sample(name, "", value)
  }

  mutating func info(_ name: String, _ help: String, _ label: String, _ value: String) {
    family(name, "gauge", help)
    sample(name, "{\(label)=\"\(value)\"}", 1)
  }

  mutating func histogram(_ name: String, _ help: String, _ histogram: Histogram) {
    family(name, "histogram", help)
    let state = histogram.current
    samples(name, "", histogram.bounds, state.buckets, sum: state.sum, count: state.count)
  }

  /// A histogram's values. `labels`: without braces, with a comma at the end, or empty.
  mutating func samples(
    _ name: String, _ labels: String, _ bounds: [Double], _ buckets: [Int], sum: Double, count: Int
  ) {
    var total = 0
    for (bound, amount) in zip(bounds, buckets) {
      total += amount
      add("\(name)_bucket{\(labels)le=\"\(Self.text(bound))\"} \(total)\n")
    }
    add("\(name)_bucket{\(labels)le=\"+Inf\"} \(count)\n")
    let outer = labels.isEmpty ? "" : "{\(labels.dropLast())}"
    add("\(name)_sum\(outer) \(Self.text(sum))\n\(name)_count\(outer) \(count)\n")
  }

  /// A number as Go prints it: whole ones without a point, from a million on with an exponent.
  static func text(_ number: Double) -> String {
    guard number == number.rounded(), number.magnitude < 1e15 else { return "\(number)" }
    var digits = String(Int64(number))
    guard number >= 1_000_000 else { return digits }
    let exponent = digits.count - 1
    let first = digits.removeFirst()
    while digits.last == "0" { digits.removeLast() }
    let fraction = digits.isEmpty ? "" : ".\(digits)"
    return "\(first)\(fraction)e+\(exponent < 10 ? "0" : "")\(exponent)"
  }

  // MARK: The server

  private mutating func addServer(_ board: Board, _ metrics: Metrics) {
    let status = board.status
    if let version = board.clusterVersion {
      let short = version.split(separator: ".").prefix(2).joined(separator: ".")
      info("etcd_cluster_version", "Which version the cluster runs at.", "cluster_version", short)
    }
    info(
      "etcd_server_version", "Which version the server has.", "server_version", status.version)
    info(
      "etcd_server_id", "The member's ID.", "server_id", Hex.text(status.member.rawValue))
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
    gauge(
      "etcd_server_quota_backend_bytes", "The store's quota.", Int(clamping: status.quotaBytes))
    counter(
      "etcd_server_slow_apply_total", "Entries that took too long to apply.",
      metrics.slowApplies.value)
    counter(
      "etcd_server_heartbeat_send_failures_total", "Heartbeats that a leader sent too late.",
      metrics.lateHeartbeats.value)
    gauge(
      "etcd_server_snapshot_apply_in_progress_total", "Whether a snapshot is being taken over.",
      metrics.snapshotsInProgress.value)
    counter(
      "etcd_server_health_success", "Health checks that went well.",
      metrics.healthSuccesses.value)
    counter(
      "etcd_server_health_failures", "Health checks that failed.",
      metrics.healthFailures.value)
    addChecks(metrics.checkCounts)
    addCorruptionChecks(metrics)
    addApplied(metrics)
  }

  private mutating func addChecks(_ checks: [Metrics.CheckCount]) {
    guard !checks.isEmpty else { return }
    family("etcd_server_healthcheck", "gauge", "How each health check went last.")
    for check in checks {
      let labels = "{name=\"\(check.name)\",type=\"\(check.type)\"}"
      sample("etcd_server_healthcheck", labels, check.isFine ? 1 : 0)
    }
    family("etcd_server_healthchecks_total", "counter", "Health checks made.")
    for check in checks {
      for (status, count) in [("success", check.successes), ("error", check.failures)]
      where count > 0 {
        let labels = "{name=\"\(check.name)\",status=\"\(status)\",type=\"\(check.type)\"}"
        sample("etcd_server_healthchecks_total", labels, count)
      }
    }
  }

  private mutating func addCorruptionChecks(_ metrics: Metrics) {
    let name = "martlet_corruption_checks_total"
    family(name, "counter", "Comparisons of the members' data, on the leader.")
    for kind in CorruptionCheck.Kind.allCases {
      for result in CorruptionCheck.Result.allCases {
        let labels = "{check=\"\(kind.name)\",result=\"\(result.name)\"}"
        sample(name, labels, metrics.corruptionChecks[kind.rawValue][result.rawValue].value)
      }
    }
  }

  private mutating func addApplied(_ metrics: Metrics) {
    let name = "etcd_server_apply_duration_seconds"
    family(name, "histogram", "How long applying takes.")
    for operation in ApplyTally.Operation.allCases {
      for (place, histogram) in metrics.applied[operation.rawValue].enumerated() {
        let state = histogram.current
        guard state.count > 0 else { continue }
        samples(
          name, "op=\"\(operation.name)\",success=\"\(place == 1)\",version=\"v3\",",
          histogram.bounds, state.buckets, sum: state.sum, count: state.count)
      }
    }
  }

  // MARK: The store

  private mutating func addStore(_ board: Board, _ metrics: Metrics) {
    let status = board.status
    let applied = board.applied
    gauge(
      "etcd_mvcc_db_total_size_in_bytes", "Bytes of the store's file.", status.databaseBytes)
    gauge(
      "etcd_mvcc_db_total_size_in_use_in_bytes", "Of them in use.", status.databaseBytesInUse)
    gauge("etcd_debugging_mvcc_keys_total", "Keys.", board.keyCount)
    gauge(
      "etcd_debugging_auth_revision", "The revision of users and roles.",
      Int(clamping: status.authRevision))
    gauge(
      "etcd_debugging_mvcc_current_revision", "The newest revision.", Int(status.revision))
    gauge(
      "etcd_debugging_mvcc_compact_revision", "The compacted revision.",
      Int(status.compactRevision))
    counter("etcd_mvcc_put_total", "Puts applied.", applied.puts)
    counter("etcd_mvcc_delete_total", "Deletes applied.", applied.deletes)
    gauge(
      "etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of keys and values put.",
      applied.putBytes)
    counter(
      "etcd_debugging_mvcc_db_compaction_keys_total", "Rows that compactions dropped.",
      board.compactedRows)
    gauge(
      "etcd_debugging_mvcc_db_compaction_last", "When a compaction ended last, since 1970.",
      metrics.lastCompaction.value)
    histogram(
      "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
      "How long steps of compactions hold writers up.", metrics.compactionPause)
    histogram(
      "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
      "How long steps of compactions hold the index.", metrics.indexPause)
    histogram(
      "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
      "How long compactions take.", metrics.compactionTotal)
    histogram("etcd_mvcc_hash_duration_seconds", "How long Hash takes.", metrics.hash)
    histogram(
      "etcd_mvcc_hash_rev_duration_seconds", "How long HashKV takes.", metrics.hashRevision)
    addLeases(applied)
  }

  private mutating func addLeases(_ applied: ApplyTally) {
    counter("etcd_debugging_lease_granted_total", "Leases granted.", applied.leasesGranted)
    counter("etcd_debugging_lease_revoked_total", "Leases revoked.", applied.leasesRevoked)
    counter(
      "etcd_debugging_lease_renewed_total", "Keep-alives seen by the leader.",
      applied.leasesRenewed)
    counter(
      "etcd_debugging_server_lease_expired_total", "Leases that ran out.", applied.leasesExpired)
    family("etcd_debugging_lease_ttl_total", "histogram", "The lives that leases were given.")
    samples(
      "etcd_debugging_lease_ttl_total", "", ApplyTally.ttlBounds.map(Double.init), applied.ttls,
      sum: Double(applied.ttlSum), count: applied.leasesGranted)
  }

  // MARK: Disk and process

  private mutating func addDisk(_ metrics: Metrics) {
    histogram("etcd_disk_wal_fsync_duration_seconds", "Syncs of the log.", metrics.walSync)
    histogram("etcd_disk_wal_write_duration_seconds", "Writes to the log.", metrics.walWrite)
    gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", metrics.walBytes.value)
    histogram(
      "etcd_disk_backend_commit_duration_seconds", "Commits of the store.", metrics.backendCommit)
    histogram(
      "etcd_disk_backend_defrag_duration_seconds", "Defragmentations of the store.",
      metrics.defragmentation)
    gauge(
      "etcd_disk_defrag_inflight", "Whether the store is being defragmented.",
      metrics.defragmentations.value)
    histogram(
      "etcd_disk_backend_snapshot_duration_seconds", "Snapshots of the store for clients.",
      metrics.backendSnapshot)
    histogram("etcd_snap_fsync_duration_seconds", "Syncs of snap files.", metrics.snapshotSave)
    histogram(
      "etcd_debugging_snap_save_total_duration_seconds", "Writes of snap files.",
      metrics.snapshotSave)
    histogram(
      "etcd_snap_db_fsync_duration_seconds", "Syncs of stores received.", metrics.databaseSync)
    histogram(
      "etcd_snap_db_save_total_duration_seconds", "Writes of stores received.",
      metrics.databaseSave)
  }

  private mutating func addProcess(startedAt: UInt64, _ metrics: Metrics) {
    let descriptors = Process.descriptors()
    gauge("os_fd_limit", "How many descriptors may be open.", descriptors.max)
    gauge("os_fd_used", "Open descriptors.", descriptors.open)
    gauge("process_open_fds", "Open descriptors.", descriptors.open)
    gauge("process_max_fds", "How many may be open.", descriptors.max)
    gauge("process_resident_memory_bytes", "Resident memory.", Process.residentBytes())
    gauge("process_virtual_memory_bytes", "Address space in use.", Process.virtualBytes())
    family("process_cpu_seconds_total", "counter", "Processor time used.")
    add("process_cpu_seconds_total \(Double(Process.cpuNanoseconds()) / 1e9)\n")
    family("process_start_time_seconds", "gauge", "When the process started.")
    add("process_start_time_seconds \(Double(startedAt) / 1e9)\n")
    counter(
      "promhttp_metric_handler_requests_total", "Times that this page was asked for.",
      metrics.scrapes.value)
  }
}
