internal import Basics

/// The watchers of one io loop: who gets which event, in which response, and when.
///
/// Pure: events come in by `publish`, the past by `feed`, responses leave encoded by
/// `takeResponses`. A synced watcher has been offered every event up to `currentRevision`; an
/// unsynced one is caught up from the store. Whatever is queued for a stream is bounded: a watcher
/// whose stream is full becomes unsynced at the first revision that it did not get, and goes on
/// when the stream has drained. No revision of a watcher is split between responses, unless into
/// fragments that it asked for. etcd: mvcc `watchableStore`, v3rpc `serverWatchStream`.
public struct WatchHub: ~Copyable {
  /// A stream of the API, named by the owner.
  public struct StreamID: Hashable, Sendable {
    public var rawValue: UInt64
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  }

  /// Bounds, in bytes, counts and nanoseconds.
  public struct Limits: Sendable {
    /// A stream with so much queued takes no further events.
    public var queuedBytesMax = 4 << 20
    /// A response that has reached this takes no further revision.
    public var responseBytesMax = 512 << 10
    /// Revisions in one response. etcd: `watchBatchMaxRevs`.
    public var responseRevisionsMax = 1000
    /// Watchers caught up in one step. etcd: `maxWatchersPerSync`.
    public var stepWatchersMax = 512
    /// Watchers on one stream; further ones are refused.
    public var streamWatchersMax = 100_000
    /// Answers to requests, and notifications, queued on a stream that takes none.
    public var controlResponsesMax = 16_384
    /// Fragments are cut below this. etcd: max-request-bytes and 512 KiB.
    public var fragmentBytes = 3 << 19 + 512 << 10
    /// Between progress notifications of a watcher that got no events; a tenth is added at random.
    public var progressIntervalNanoseconds: UInt64 = 600_000_000_000
    public init() {}
  }

  /// What a client asks for. An empty key is the smallest key; `rangeEnd` as on the wire: empty for
  /// a single key, "\0" for all keys from `key` on.
  public struct Request: Sendable {
    /// 0 and -1 leave the choice to the hub.
    public var watchID: Int64 = 0
    public var key: [UInt8] = []
    public var rangeEnd: [UInt8] = []
    /// 0: from the next revision on.
    public var startRevision: Int64 = 0
    /// Leave out puts. etcd: filter NOPUT.
    public var noPut = false
    /// Leave out deletes. etcd: filter NODELETE.
    public var noDelete = false
    public var previousKeyValue = false
    public var progressNotify = false
    public var fragment = false
    public init() {}
  }

  /// The answer is queued in either case.
  public enum CreateResult: Hashable, Sendable {
    case created(watchID: Int64)
    case refused
  }

  /// The main revision up to which events have been published.
  public internal(set) var currentRevision: Int64
  public internal(set) var compactRevision: Int64
  public let limits: Limits

  var watchers: [Watcher] = []
  var freeWatchers: [Int] = []
  var streams: [Stream] = []
  var freeStreams: [Int] = []
  var streamSlots: [StreamID: Int] = [:]
  var records = EventRecords()
  var index: WatchIndex
  var unsynced: [Int32] = []
  var random: Random
  /// Catching up goes upwards through the revisions, from `sweepNext` to `sweepEnd`, then anew.
  var sweepNext: Int64 = 0
  var sweepEnd: Int64 = -1
  /// Streams that may have responses to take, in turn.
  var ready: [Int] = []
  /// Streams whose next response waits for a previous value.
  var blocked: [Int] = []
  /// Streams with an unanswered progress request.
  var progressWaiting: [Int] = []
  var matchScratch: [Int32] = []
  var touched: [Int32] = []

  /// `seed` draws the jitter of progress notifications and the shape of the index.
  public init(limits: Limits, currentRevision: Int64, compactRevision: Int64, seed: UInt64) {
    self.limits = limits
    self.currentRevision = currentRevision
    self.compactRevision = compactRevision
    random = Random(seed: seed)
    index = WatchIndex(seed: random.next())
  }

  // MARK: Figures

  public var streamCount: Int { streams.count - freeStreams.count }
  public internal(set) var watcherCount = 0
  /// Watchers that are not synced. etcd: slow watchers.
  public var slowWatcherCount: Int { unsynced.count }
  /// Events queued and not yet taken.
  public internal(set) var queuedEventCount = 0
  /// Events that have left in responses, since the beginning.
  public internal(set) var sentEventCount = 0
  /// Events in memory for them, each once however many watchers get it.
  public var heldEventCount: Int { records.heldCount }

  /// Bytes queued for a stream, 0 when it is unknown.
  public func queuedBytes(of stream: StreamID) -> Int {
    streamSlots[stream].map { streams[$0].queuedBytes } ?? 0
  }

  /// Whether the stream takes no responses and so many answers wait that no further request should
  /// be served.
  public func isCongested(_ stream: StreamID) -> Bool {
    guard let stream = streamSlots[stream].map({ streams[$0] }) else { return false }
    return !stream.isWritable && stream.controlCount >= limits.controlResponsesMax
  }

  // MARK: Requests

  /// Makes a watcher and queues the answer, which is refused as etcd refuses: an empty range, an ID
  /// in use, a negative start. `storeRevision` is what the store has reached, if the owner knows it
  /// to be ahead of what was published here: a watch from now on starts behind it.
  public mutating func create(
    _ stream: StreamID, _ request: Request, storeRevision: Int64
  ) -> CreateResult {
    let slot = open(stream)
    let now = max(storeRevision, currentRevision)
    guard request.startRevision >= 0 else { return refuse(slot, .compacted, now) }
    var interest = WatchIndex.Interest(
      from: request.key.isEmpty ? [0] : request.key, to: request.rangeEnd,
      isSingle: request.rangeEnd.isEmpty)
    if interest.to == [0] { interest.to = [] }
    if !interest.to.isEmpty && interest.from.rawSpan.compare(interest.to.rawSpan) >= 0 {
      return refuse(slot, .emptyRange, now)
    }
    guard streams[slot].watchers.count < limits.streamWatchersMax else {
      return refuse(slot, .tooMany, now)
    }
    guard let watchID = chooseID(request.watchID, slot) else {
      return refuse(slot, .duplicateID, now)
    }
    let start = request.startRevision
    let watcher = Watcher(
      stream: slot, watchID: watchID, interest: interest, request: request,
      position: start == 0 ? now + 1 : start, progressFloor: start)
    respond(slot, Response(watchID: watchID, revision: now, isCreated: true))
    add(watcher)
    return .created(watchID: watchID)
  }

  /// Queues the answer of a create request that the owner refuses, with the text of its reason.
  public mutating func refuse(_ stream: StreamID, reason: [UInt8]) {
    let slot = open(stream)
    _ = refuse(slot, .text(reason), currentRevision)
  }

  /// Ends a watcher and queues the answer; false, and no answer, when there is none of that ID.
  public mutating func cancel(_ stream: StreamID, _ watchID: Int64) -> Bool {
    guard let slot = streamSlots[stream], let watcher = streams[slot].byID[watchID] else {
      return false
    }
    respond(slot, Response(watchID: watchID, revision: currentRevision, isCanceled: true))
    remove(watcher)
    answerProgress()
    return true
  }

  /// Forgets the stream, its watchers and what is queued for it.
  public mutating func closeStream(_ stream: StreamID) {
    guard let slot = streamSlots.removeValue(forKey: stream) else { return }
    while let watcher = streams[slot].watchers.last { remove(Int(watcher)) }
    while let response = streams[slot].responses.popFirst() { release(response, of: slot) }
    ready.removeAll { $0 == slot }
    blocked.removeAll { $0 == slot }
    progressWaiting.removeAll { $0 == slot }
    streams[slot] = Stream(id: stream)
    freeStreams.append(slot)
  }

  // MARK: Inside

  private mutating func open(_ stream: StreamID) -> Int {
    if let slot = streamSlots[stream] { return slot }
    let slot = freeStreams.popLast() ?? streams.count
    if slot == streams.count { streams.append(Stream(id: stream)) }
    streams[slot] = Stream(id: stream)
    streamSlots[stream] = slot
    return slot
  }

  private mutating func chooseID(_ wanted: Int64, _ slot: Int) -> Int64? {
    guard wanted == 0 || wanted == -1 else {
      return streams[slot].byID[wanted] == nil ? wanted : nil
    }
    while streams[slot].byID[streams[slot].nextID] != nil { streams[slot].nextID &+= 1 }
    defer { streams[slot].nextID &+= 1 }
    return streams[slot].nextID
  }

  private mutating func refuse(_ slot: Int, _ reason: Response.Reason, _ revision: Int64)
    -> CreateResult
  {
    respond(
      slot,
      Response(
        watchID: -1, revision: revision, isCreated: true, isCanceled: true, reason: reason))
    return .refused
  }

  private mutating func add(_ watcher: Watcher) {
    let at = freeWatchers.popLast() ?? watchers.count
    if at == watchers.count { watchers.append(watcher) } else { watchers[at] = watcher }
    let slot = watcher.stream
    streams[slot].byID[watcher.watchID] = at
    watchers[at].placeInStream = streams[slot].watchers.count
    streams[slot].watchers.append(Int32(at))
    if watcher.request.progressNotify { streams[slot].notifyCount += 1 }
    watcherCount += 1
    index.insert(at, watcher.interest)
    guard watcher.position <= currentRevision else { return }
    makeUnsynced(at, from: watcher.position)
    if watcher.position < compactRevision { cancelCompacted(at) }
  }

  private mutating func remove(_ at: Int) {
    let slot = watchers[at].stream
    leaveIndex(at)
    streams[slot].byID[watchers[at].watchID] = nil
    let place = watchers[at].placeInStream
    if let moved = streams[slot].watchers.removeBySwapping(at: place) {
      watchers[Int(moved)].placeInStream = place
    }
    if watchers[at].request.progressNotify { streams[slot].notifyCount -= 1 }
    watcherCount -= 1
    watchers[at] = Watcher.none
    freeWatchers.append(at)
  }

  /// Takes a watcher out of everything that brings it events.
  mutating func leaveIndex(_ at: Int) {
    if watchers[at].state == .unsynced { makeSynced(at) }
    if watchers[at].state == .synced { index.remove(at, watchers[at].interest) }
    watchers[at].state = .ended
  }

  mutating func makeUnsynced(_ at: Int, from revision: Int64) {
    watchers[at].position = revision
    guard watchers[at].state == .synced else { return }
    watchers[at].state = .unsynced
    watchers[at].placeInUnsynced = unsynced.count
    unsynced.append(Int32(at))
    streams[watchers[at].stream].unsyncedCount += 1
  }

  mutating func makeSynced(_ at: Int) {
    watchers[at].state = .synced
    let place = watchers[at].placeInUnsynced
    if let moved = unsynced.removeBySwapping(at: place) {
      watchers[Int(moved)].placeInUnsynced = place
    }
    streams[watchers[at].stream].unsyncedCount -= 1
  }
}
