internal import Basics

extension WatchHub {
  /// A stretch of revisions, both included, that unsynced watchers need from the store.
  public struct CatchUp: Hashable, Sendable {
    public var from: Int64
    public var to: Int64
  }

  /// Takes the changes that follow `currentRevision`, without a gap, and queues them for the synced
  /// watchers that want them.
  public mutating func publish(_ batch: borrowing EventBatch) {
    guard !batch.isEmpty else { return }
    precondition(batch.firstRevision == currentRevision + 1, "events follow without a gap")
    gather(batch, from: .min, state: .synced)
    currentRevision = batch.lastRevision
    for at in touched { flush(Int(at)) }
    touched.removeAll(keepingCapacity: true)
    answerProgress()
  }

  /// Which changes to feed next; nil when no unsynced watcher has room. Steps go upwards through
  /// the revisions, so that one reading of the past serves all who stand in it.
  public mutating func nextCatchUp() -> CatchUp? {
    if let from = lowestPosition(from: sweepNext), from <= sweepEnd {
      return CatchUp(from: from, to: currentRevision)
    }
    guard let from = lowestPosition(from: .min) else { return nil }
    (sweepNext, sweepEnd) = (from, currentRevision)
    return CatchUp(from: from, to: currentRevision)
  }

  /// Takes all changes of `step` up to and including revision `through`, which may be none. The
  /// owner bounds them by count and bytes as it likes, between whole revisions.
  public mutating func feed(
    _ changes: borrowing EventBatch, of step: CatchUp, through: Int64
  ) {
    precondition(through >= step.from && through <= currentRevision, "a step reads on")
    precondition(changes.isEmpty || changes.firstRevision >= step.from)
    precondition(changes.lastRevision <= through, "changes beyond the step")
    sweepNext = through + 1
    var served: [Int32] = []
    for at in unsynced where served.count < limits.stepWatchersMax {
      let position = watchers[Int(at)].position
      guard position >= step.from && position <= through && hasRoom(Int(at)) else { continue }
      watchers[Int(at)].isServed = true
      served.append(at)
    }
    gather(changes, from: step.from, state: .unsynced)
    touched.removeAll(keepingCapacity: true)
    for at in served {
      let at = Int(at)
      watchers[at].isServed = false
      watchers[at].position = through + 1
      flush(at)
      if watchers[at].position > currentRevision { makeSynced(at) }
    }
    answerProgress()
  }

  /// The store has compacted up to `revision`: watchers that stand before it are cancelled.
  public mutating func compacted(_ revision: Int64) {
    guard revision > compactRevision else { return }
    cancel(before: revision)
  }

  /// Changes before `revision` cannot be read, if any before the compaction can: watchers that
  /// stand there are cancelled, also those that have come to stand there since it was told.
  public mutating func cancel(before revision: Int64) {
    compactRevision = max(compactRevision, revision)
    var place = unsynced.count
    while place > 0 {
      place -= 1
      // The watcher that takes the place of a cancelled one has been seen.
      let at = Int(unsynced[place])
      if watchers[at].position < compactRevision { cancelCompacted(at) }
    }
    answerProgress()
  }

  /// The store was replaced by a snapshot: watchers catch up from where they were. etcd: `Restore`.
  public mutating func storeReplaced(revision: Int64, compactRevision: Int64) {
    let last = currentRevision
    currentRevision = max(currentRevision, revision)
    for at in watchers.indices where watchers[at].state == .synced {
      let position = max(watchers[at].position, last + 1)
      if position <= currentRevision { makeUnsynced(at, from: position) }
    }
    // The compaction may be known already, and left those alone who were synced.
    cancel(before: compactRevision)
  }

  mutating func cancelCompacted(_ at: Int) {
    let watcher = watchers[at]
    leaveIndex(at)
    // etcd's answer has neither a revision in its header nor a reason.
    respond(
      watcher.stream,
      Response(
        watchID: watcher.watchID, revision: 0, isCanceled: true,
        compactRevision: compactRevision, reason: .none))
  }

  // MARK: Inside

  private func hasRoom(_ at: Int) -> Bool {
    streams[watchers[at].stream].queuedBytes < limits.queuedBytesMax
  }

  private func lowestPosition(from: Int64) -> Int64? {
    var lowest: Int64?
    for at in unsynced {
      let position = watchers[Int(at)].position
      guard position >= from, position < lowest ?? .max, hasRoom(Int(at)) else { continue }
      lowest = position
    }
    return lowest
  }

  /// Hands each event to the watchers that want it; `touched` has who got any.
  private mutating func gather(
    _ batch: borrowing EventBatch, from: Int64, state: Watcher.State
  ) {
    for event in batch.events {
      matchScratch.removeAll(keepingCapacity: true)
      index.matches(batch.arena.rawSpan.extracting(event.key), into: &matchScratch)
      var record: Int32 = -1
      for at in matchScratch {
        let at = Int(at)
        guard watchers[at].state == state, watchers[at].position <= event.revision.main,
          state == .synced || watchers[at].isServed, watchers[at].wants(event)
        else { continue }
        if record < 0 { record = records.make(event, in: batch.arena) }
        records.retain(record)
        if watchers[at].gathered.isEmpty { touched.append(Int32(at)) }
        watchers[at].gathered.append(record)
      }
    }
  }

  /// Queues what a watcher has gathered, whole revisions at a time while its stream has room; from
  /// the first revision that does not fit it is unsynced.
  private mutating func flush(_ at: Int) {
    var gathered: [Int32] = []
    swap(&gathered, &watchers[at].gathered)
    let slot = watchers[at].stream
    var next = 0
    while next < gathered.count {
      guard hasRoom(at) else {
        makeUnsynced(at, from: records.all[Int(gathered[next])].revision)
        break
      }
      let (end, bytes) = responseEnd(gathered, from: next)
      let request = watchers[at].request
      for record in gathered[next..<end] {
        streams[slot].items.append(record)
        if request.previousKeyValue { records.wantPrevious(record) }
      }
      var response = Response(watchID: watchers[at].watchID, revision: currentRevision)
      response.withPrevious = request.previousKeyValue
      response.inFragments = request.fragment
      response.eventCount = end - next
      response.eventBytes = bytes
      respond(slot, response)
      watchers[at].isQuiet = false
      next = end
    }
    for record in gathered[next...] { records.release(record) }
    gathered.removeAll(keepingCapacity: true)
    if gathered.capacity <= 64 { swap(&gathered, &watchers[at].gathered) }
  }

  /// Where a response that starts at `start` ends: between revisions, and the bytes up to there.
  private func responseEnd(_ gathered: [Int32], from start: Int) -> (end: Int, bytes: Int) {
    var end = start
    var bytes = 0
    var revisions = 0
    var last: Int64 = 0
    while end < gathered.count {
      let revision = records.all[Int(gathered[end])].revision
      if revision != last {
        guard revisions < limits.responseRevisionsMax, bytes < limits.responseBytesMax else {
          break
        }
        revisions += 1
        last = revision
      }
      bytes += records.all[Int(gathered[end])].body.count
      end += 1
    }
    return (end, bytes)
  }
}
