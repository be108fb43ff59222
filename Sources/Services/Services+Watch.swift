internal import API
internal import Basics
public import MVCC
internal import Replica

/// What watchers need of the store in one wake.
struct WatchWork {
  /// Whether some watcher has to be caught up.
  var wantsCatchUp = false
  /// Previous values to be looked up, and those that were planned.
  var wanted: [WatchHub.PreviousRequest] = []
  var planned: [(request: WatchHub.PreviousRequest, plan: RangePlan?)] = []
  /// History that is to be read, for which step.
  var history = ChangesPlan()
  var step: WatchHub.CatchUp?
  var changes = EventBatch()
  var output = WatchOutput()
}

extension Services {
  private func stream(_ id: CallID) -> WatchHub.StreamID { WatchHub.StreamID(id.rawValue) }

  mutating func closeWatch(_ id: CallID) { hub.closeStream(stream(id)) }

  /// Says whether a stream's send side has room; it has at first.
  public mutating func writable(_ id: CallID, _ isWritable: Bool) {
    guard calls[id]?.method == .watch else { return }
    hub.setWritable(stream(id), isWritable)
  }

  /// Whether a stream's messages should wait: too many of its answers are unsent.
  public func isCongested(_ id: CallID) -> Bool { hub.isCongested(stream(id)) }

  /// Serves a WatchRequest; one that asks for nothing known is passed over.
  mutating func receiveWatch(
    _ id: CallID, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    let request: WatchRequestView
    do { request = try WatchRequestView(message) } catch { throw .malformed }
    switch request {
    case .none: break
    case .create(let view):
      _ = hub.create(
        stream(id), WatchHub.Request(view, message), storeRevision: status.revision)
    case .cancel(let watchID): _ = hub.cancel(stream(id), watchID)
    case .progress: hub.requestProgress(stream(id))
    }
  }

  /// Answers a WatchRequest that is not permitted.
  mutating func refuseWatch(_ id: CallID, _ failure: Failure) {
    hub.refuse(stream(id), reason: failure.cancelReason)
  }

  /// Takes the changes that were applied, in revision order and without a gap, for watchers and
  /// for those who wait for a key.
  public mutating func events(_ batch: borrowing EventBatch, out: inout Outbox) {
    hub.publish(batch)
    wakeWaiters(batch, out: &out)
  }

  /// The store was replaced by a leader's snapshot that ends at `revision`: changes up to there
  /// do not come through `events`. Watchers catch up from the new store.
  public mutating func storeReplaced(
    revision: Int64, compactRevision: Int64, out: inout Outbox
  ) {
    hub.storeReplaced(revision: revision, compactRevision: compactRevision)
    searchAnew(out: &out)
  }

  mutating func tickWatches() { hub.tick(now: status.now) }

  /// Moves responses out and sees what the store is needed for.
  mutating func flushWatches(out: inout Outbox) {
    hub.compacted(status.compactRevision)
    watches.output.removeAll()
    hub.takeResponses(
      WatchIdentity(
        clusterID: status.cluster.rawValue, memberID: status.member.rawValue,
        raftTerm: status.term.rawValue),
      into: &watches.output, bytesMax: limits.watchBytesPerWakeMax)
    for (stream, message) in watches.output.messages {
      tally.sent(.watch)
      out.message(
        CallID(stream.rawValue), watches.output.arena.rawSpan.extracting(message))
    }
    watches.wantsCatchUp = hub.nextCatchUp() != nil
    while watches.wanted.count < limits.previousPerWakeMax, let request = hub.nextPrevious() {
      watches.wanted.append(request)
    }
  }

  var watchesWantStore: Bool { watches.wantsCatchUp || !watches.wanted.isEmpty }

  /// Whether watchers have responses that did not fit into this wake.
  public var hasWatchResponses: Bool { hub.hasResponses }

  /// Under the read lock: plans previous values and one bounded step of history.
  mutating func planWatches(store: borrowing Store<B>, reader: inout B.Reader) {
    for request in watches.wanted {
      var query = RangeQuery(key: request.key, end: [])
      query.revision = request.revision
      var plan = RangePlan()
      do throws(Failure) {
        // Before the first revision there is nothing.
        guard request.revision > 0 else { throw .compacted }
        try StoreReading.plan(query, store, &reader, into: &plan)
        watches.planned.append((request, plan))
      } catch {
        watches.planned.append((request, nil))
      }
    }
    watches.wanted.removeAll(keepingCapacity: true)
    hub.compacted(store.compactRevision)
    guard let step = hub.nextCatchUp() else { return }
    do throws(StoreError) {
      try store.planChanges(
        from: step.from, to: step.to, reader: &reader, into: &watches.history)
      watches.step = step
    } catch {
      // A revision that cannot be read is as good as compacted: the client has to start anew.
      hub.cancel(before: step.from + 1)
    }
  }

  /// Without the lock: hands the watchers what was planned.
  mutating func executeWatches(reader: inout B.Reader, out: inout Outbox) {
    var value: [UInt8] = []
    let planned = watches.planned
    watches.planned.removeAll(keepingCapacity: true)
    for (request, plan) in planned {
      value.removeAll(keepingCapacity: true)
      var isThere = false
      if var plan {
        isThere = (try? StoreReading.first(&plan, &reader, into: &value)) ?? false
      }
      if isThere { hub.resolve(request, value.rawSpan) } else { hub.resolve(request, nil) }
    }
    if let step = watches.step {
      watches.step = nil
      watches.changes.removeAll()
      do throws(BackendError) {
        let through = try watches.history.execute(
          reader: &reader, bytesMax: limits.catchUpBytesMax, into: &watches.changes)
        hub.feed(watches.changes, of: step, through: through)
      } catch {
        hub.cancel(before: step.from + 1)
      }
    }
    flushWatches(out: &out)
  }
}

extension WatchHub.Request {
  init(_ view: WatchCreateRequestView, _ bytes: RawSpan) {
    self.init()
    key = bytes.extracting(view.key).copied()
    rangeEnd = bytes.extracting(view.rangeEnd).copied()
    startRevision = view.startRevision
    progressNotify = view.progressNotify
    noPut = view.noPut
    noDelete = view.noDelete
    previousKeyValue = view.prevKV
    watchID = view.watchID
    fragment = view.fragment
  }
}
