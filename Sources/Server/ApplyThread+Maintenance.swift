internal import Basics
internal import MVCC
internal import Platform
internal import Replica
internal import Services

/// Compaction and hashes: what runs beside the traffic, in bounded steps.
extension ApplyThread {
  /// Whether the write buffer takes another step of a compaction.
  var hasRoom: Bool {
    shared.replica.store.bufferedOperations
      < Limits.batchesWithCompaction * settings.batchOperationsMax
  }

  /// Asks the log for what `--auto-compaction-retention` wants.
  mutating func compactIfDue(_ now: UInt64) {
    let revision = compactor?.tick(
      now: now, revision: shared.replica.store.currentRevision,
      compacted: shared.replica.store.compactRevision, isLeader: isLeader)
    guard let revision else { return }
    let isPeriodic = if case .periodic = compactor?.mode { true } else { false }
    shared.log.info(
      "starting auto \(isPeriodic ? "periodic" : "revision") compaction",
      ("revision", String(revision)))
    let request = AutoCompactor.request(revision)
    outcome.proposals.append(Proposal(.compaction, request.rawSpan, id: ids.next()))
  }

  /// One step of a compaction under way.
  mutating func compact(_ now: UInt64) {
    let shared = shared
    guard shared.replica.isCompacting, hasRoom else { return }
    let start = Clock.monotonic()
    if compactingSince == nil { compactingSince = start }
    shared.storeLock.lockForWriting()
    let isDone = shared.replica.compactStep(
      keysMax: settings.compactionKeysPerStep, into: &outcome)
    shared.storeLock.unlock()
    if dirtySince == nil { dirtySince = now }
    let end = Clock.monotonic()
    shared.metrics.compactionPause.observe(nanoseconds: end - start)
    shared.metrics.indexPause.observe(nanoseconds: end - start)
    guard isDone, let since = compactingSince else { return }
    compactingSince = nil
    shared.metrics.compactionTotal.observe(nanoseconds: end - since)
    shared.metrics.lastCompaction.set(Int(Clock.wall() / 1_000_000_000))
  }

  /// One step of the hash that is asked for.
  mutating func hash() {
    let shared = shared
    guard shared.replica.isHashing else { return }
    let isByRevision = shared.replica.isHashingByRevision
    if hashingSince == nil { hashingSince = Clock.monotonic() }
    let waiting = shared.replica.hashCount
    shared.storeLock.lockForReading()
    shared.replica.hashStep(rowsMax: Limits.hashRowsPerStep, into: &outcome)
    shared.storeLock.unlock()
    guard shared.replica.hashCount < waiting, let since = hashingSince else { return }
    hashingSince = nil
    let took = Clock.monotonic() - since
    (isByRevision ? shared.metrics.hashRevision : shared.metrics.hash).observe(nanoseconds: took)
  }
}
