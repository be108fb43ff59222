public import Basics

/// Encoded responses of many streams, in one arena.
public struct WatchOutput: Sendable {
  /// The bytes that the slices of `messages` name.
  public var arena: [UInt8] = []
  /// In the order in which each stream must send them.
  public var messages: [(stream: WatchHub.StreamID, message: Slice)] = []
  public init() {}

  /// Empties it and keeps its memory.
  public mutating func removeAll() {
    arena.removeAll(keepingUpTo: 4 << 20)
    messages.removeAll(keepingUpTo: 65_536)
  }
}

extension WatchHub {
  /// The state of a key that an event's response needs: the key at `revision`.
  public struct PreviousRequest: Sendable {
    public var key: [UInt8]
    public var revision: Int64
    var record: Int32
    var generation: UInt32
  }

  /// The next previous value to look up; nil when none is wanted. Each is asked for once, however
  /// many watchers get it; the responses that need it wait until `resolve`.
  public mutating func nextPrevious() -> PreviousRequest? {
    while let asking = records.asking.popFirst() {
      let record = records.all[Int(asking.record)]
      guard record.generation == asking.generation && record.references > 0 else { continue }
      return PreviousRequest(
        key: Array(record.body[record.key.range]), revision: record.revision - 1,
        record: asking.record, generation: asking.generation)
    }
    return nil
  }

  /// Answers a request with an encoded `mvccpb.KeyValue`, or nil when there is none: the key did
  /// not exist, or its revision is compacted.
  public mutating func resolve(_ request: PreviousRequest, _ keyValue: RawSpan?) {
    records.setPrevious(request.record, request.generation, keyValue)
    ready.append(contentsOf: blocked)
    blocked.removeAll(keepingCapacity: true)
  }

  /// Whether the stream takes responses; it does at first.
  public mutating func setWritable(_ stream: StreamID, _ isWritable: Bool) {
    guard let slot = streamSlots[stream] else { return }
    streams[slot].isWritable = isWritable
    list(slot)
  }

  /// True when `takeResponses` has something to do.
  public var hasResponses: Bool { !ready.isEmpty }

  /// Moves responses of writable streams, in turn, to `output`, until it has `bytesMax` or none is
  /// left that could go. One response goes whole.
  public mutating func takeResponses(
    _ identity: WatchIdentity, into output: inout WatchOutput, bytesMax: Int
  ) {
    var next = 0
    while next < ready.count && output.arena.count < bytesMax {
      let slot = ready[next]
      next += 1
      streams[slot].isListed = false
      guard streams[slot].isWritable else { continue }
      let share = output.arena.count + Self.turnBytes
      var isBlocked = false
      while !streams[slot].responses.isEmpty && output.arena.count < min(share, bytesMax) {
        guard isResolved(slot) else {
          isBlocked = true
          break
        }
        takeResponse(slot, identity, into: &output)
      }
      guard !streams[slot].responses.isEmpty else { continue }
      streams[slot].isListed = true
      if isBlocked { blocked.append(slot) } else { ready.append(slot) }
    }
    ready.removeFirst(next)
  }

  /// What one stream may take before it is another's turn.
  private static var turnBytes: Int { 64 << 10 }

  // MARK: Progress

  /// Queues progress notifications that are due. `now` is monotonic, in nanoseconds.
  public mutating func tick(now: UInt64) {
    for slot in streams.indices where streams[slot].notifyCount > 0 {
      guard let deadline = streams[slot].progressDeadline else {
        let interval = limits.progressIntervalNanoseconds
        let tenth = Int(clamping: max(interval / 10, 1))
        streams[slot].progressJitter = UInt64(random.next(below: tenth))
        streams[slot].progressDeadline = now &+ interval &+ streams[slot].progressJitter
        continue
      }
      guard now >= deadline else { continue }
      streams[slot].progressDeadline =
        now &+ limits.progressIntervalNanoseconds &+ streams[slot].progressJitter
      notify(slot)
    }
  }

  private mutating func notify(_ slot: Int) {
    for at in streams[slot].watchers {
      let at = Int(at)
      guard watchers[at].request.progressNotify else { continue }
      let isDue = watchers[at].isQuiet && hasProgress(at)
      watchers[at].isQuiet = true
      guard isDue && streams[slot].controlCount < limits.controlResponsesMax else { continue }
      respond(slot, Response(watchID: watchers[at].watchID, revision: currentRevision))
    }
  }

  /// A client asks how far the stream is: answered, with watch ID -1, as soon as all its watchers
  /// are synced. A stream without watchers gets no answer. etcd: `RequestProgressAll`.
  public mutating func requestProgress(_ stream: StreamID) {
    guard let slot = streamSlots[stream], !streams[slot].wantsProgress else { return }
    streams[slot].wantsProgress = true
    progressWaiting.append(slot)
    answerProgress()
  }

  private func hasProgress(_ at: Int) -> Bool {
    watchers[at].state == .synced && currentRevision >= watchers[at].progressFloor
      && currentRevision >= streams[watchers[at].stream].toldRevision
  }

  mutating func answerProgress() {
    guard !progressWaiting.isEmpty else { return }
    var waiting: [Int] = []
    for slot in progressWaiting {
      let live = streams[slot].watchers.filter { watchers[Int($0)].state != .ended }
      if streams[slot].unsyncedCount > 0 || !live.allSatisfy({ hasProgress(Int($0)) }) {
        waiting.append(slot)
        continue
      }
      streams[slot].wantsProgress = false
      if !live.isEmpty { respond(slot, Response(watchID: -1, revision: currentRevision)) }
    }
    progressWaiting = waiting
  }

  // MARK: Queue

  /// Queues a response; the revisions of a stream's headers do not go back, as events may still
  /// be on their way here when the owner knows of a later revision.
  mutating func respond(_ slot: Int, _ answer: Response) {
    var response = answer
    if response.revision != 0 {
      response.revision = max(response.revision, streams[slot].toldRevision)
      streams[slot].toldRevision = response.revision
    }
    streams[slot].responses.append(response)
    streams[slot].queuedBytes += response.eventBytes
    queuedEventCount += response.eventCount
    if response.eventCount == 0 { streams[slot].controlCount += 1 }
    list(slot)
  }

  /// Forgets the events of a response that has left the queue.
  mutating func release(_ response: Response, of slot: Int) {
    for offset in 0..<response.eventCount { records.release(streams[slot].items[offset]) }
    streams[slot].items.removeFirst(response.eventCount)
    streams[slot].queuedBytes -= response.eventBytes
    queuedEventCount -= response.eventCount
    if response.eventCount == 0 { streams[slot].controlCount -= 1 }
  }

  private mutating func list(_ slot: Int) {
    guard streams[slot].isWritable, !streams[slot].isListed, !streams[slot].responses.isEmpty
    else { return }
    streams[slot].isListed = true
    ready.append(slot)
  }

  /// Whether the stream's first response has all previous values that it needs.
  private func isResolved(_ slot: Int) -> Bool {
    guard let response = streams[slot].responses.first, response.withPrevious else { return true }
    for offset in 0..<response.eventCount {
      if case .wanted = records.all[Int(streams[slot].items[offset])].previous { return false }
    }
    return true
  }

  private mutating func takeResponse(
    _ slot: Int, _ identity: WatchIdentity, into output: inout WatchOutput
  ) {
    guard let response = streams[slot].responses.popFirst() else { return }
    var next = 0
    repeat {
      let start = output.arena.count
      next = encode(response, slot, from: next, identity, into: &output.arena)
      output.messages.append(
        (streams[slot].id, Slice(start: start, count: output.arena.count - start)))
    } while next < response.eventCount
    sentEventCount += response.eventCount
    release(response, of: slot)
  }

  /// Encodes the response, or its next fragment, from event `first` on; returns the event after it.
  private func encode(
    _ response: Response, _ slot: Int, from first: Int, _ identity: WatchIdentity,
    into bytes: inout [UInt8]
  ) -> Int {
    let head = WatchResponseHead(response, identity)
    var end = response.eventCount
    if response.inFragments {
      var size = head.byteCount + 2
      end = first
      while end < response.eventCount {
        let event = event(slot, end, response)
        size += event.byteCount
        if end > first && size >= limits.fragmentBytes { break }
        end += 1
      }
    }
    head.append(to: &bytes, isFragment: end < response.eventCount)
    for offset in first..<end { event(slot, offset, response).append(to: &bytes) }
    return end
  }

  private func event(_ slot: Int, _ offset: Int, _ response: Response) -> WatchEvent {
    let record = records.all[Int(streams[slot].items[offset])]
    if response.withPrevious, case .known(let previous) = record.previous {
      return WatchEvent(body: record.body, previous: previous)
    }
    return WatchEvent(body: record.body, previous: nil)
  }
}
