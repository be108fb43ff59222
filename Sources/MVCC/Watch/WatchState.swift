internal import Basics

/// One watcher of a hub.
struct Watcher {
  enum State {
    case synced
    case unsynced
    /// Cancelled by a compaction, or an empty place; its ID stays in use until it is cancelled.
    case ended
  }

  var stream: Int
  var watchID: Int64
  var interest: WatchIndex.Interest
  var request: WatchHub.Request
  /// Unsynced: the first revision that it has not been offered. Synced: the first that it wants.
  var position: Int64
  /// The start that the client named: below it there is no progress to tell.
  var progressFloor: Int64
  var state = State.synced
  var placeInStream = 0
  var placeInUnsynced = 0
  /// No events since the last time that progress notifications were due.
  var isQuiet = true
  /// Takes part in the catching up that is under way.
  var isServed = false
  /// Events of the batch at hand: numbers of records.
  var gathered: [Int32] = []

  static let none = Watcher(
    stream: -1, watchID: 0, interest: WatchIndex.Interest(from: [], to: [], isSingle: true),
    request: WatchHub.Request(), position: 0, progressFloor: 0, state: .ended)

  init(
    stream: Int, watchID: Int64, interest: WatchIndex.Interest, request: WatchHub.Request,
    position: Int64, progressFloor: Int64, state: State = .synced
  ) {
    self.stream = stream
    self.watchID = watchID
    self.interest = interest
    self.request = request
    self.position = position
    self.progressFloor = progressFloor
    self.state = state
    // The interest has them.
    self.request.key = []
    self.request.rangeEnd = []
  }

  func wants(_ event: EventBatch.Event) -> Bool {
    switch event.kind {
    case .put: !request.noPut
    case .delete: !request.noDelete
    }
  }
}

/// A response in the queue of a stream; its events are the next `eventCount` of the stream's items.
struct Response {
  enum Reason {
    case none
    case duplicateID
    case emptyRange
    case compacted
    case tooMany
    case text([UInt8])
  }

  var watchID: Int64
  var revision: Int64
  var isCreated = false
  var isCanceled = false
  var compactRevision: Int64 = 0
  var reason = Reason.none
  var withPrevious = false
  var inFragments = false
  var eventCount = 0
  var eventBytes = 0
}

/// One stream of a hub.
struct Stream {
  var id: WatchHub.StreamID
  var watchers: [Int32] = []
  var byID: [Int64: Int] = [:]
  var nextID: Int64 = 0
  /// The revision of the newest header.
  var toldRevision: Int64 = 0
  var unsyncedCount = 0
  var responses = Fifo<Response>()
  /// The events of the responses: numbers of records.
  var items = Fifo<Int32>()
  var queuedBytes = 0
  /// Queued responses without events.
  var controlCount = 0
  var isWritable = true
  /// In `ready` or `blocked`.
  var isListed = false
  var wantsProgress = false
  /// Watchers that asked for progress notifications.
  var notifyCount = 0
  var progressDeadline: UInt64?
  var progressJitter: UInt64 = 0

  init(id: WatchHub.StreamID) { self.id = id }
}

/// A queue in one array, whose front is given back when it is half of it.
struct Fifo<Element> {
  private var elements: [Element] = []
  private var head = 0

  var count: Int { elements.count - head }
  var isEmpty: Bool { head == elements.count }
  var first: Element? { isEmpty ? nil : elements[head] }

  subscript(_ offset: Int) -> Element { elements[head + offset] }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func popFirst() -> Element? {
    guard let first else { return nil }
    removeFirst(1)
    return first
  }

  mutating func removeFirst(_ count: Int) {
    precondition(count <= self.count)
    head += count
    if head == elements.count {
      elements.removeAll(keepingCapacity: elements.count <= 64)
      head = 0
    } else if head > 64 && head * 2 > elements.count {
      elements.removeFirst(head)
      head = 0
    }
  }
}

/// Events that are queued somewhere, each held once however many watchers get it.
struct EventRecords {
  enum Previous {
    /// No watcher that has it queued asked for it, or there is none by the event's nature.
    case notWanted
    case wanted
    case absent
    case known([UInt8])
  }

  struct Record {
    /// The encoded `mvccpb.Event` without prev_kv.
    var body: [UInt8]
    var key: Slice
    var revision: Int64
    var isCreate: Bool
    var references = 0
    var generation: UInt32
    var previous = Previous.notWanted
  }

  private(set) var all: [Record] = []
  private var free: [Int32] = []
  var heldCount: Int { all.count - free.count }
  /// Records whose previous value is wanted and not yet asked for, with their generations.
  var asking = Fifo<(record: Int32, generation: UInt32)>()

  mutating func make(_ event: EventBatch.Event, in arena: [UInt8]) -> Int32 {
    var body: [UInt8] = []
    let count = Int(event.keyValue.count)
    body.reserveCapacity(count + 9)
    if event.kind == .delete { body += [0x08, 0x01] }
    body.append(0x12)
    body.appendVarint(UInt64(count))
    let key = Slice(
      start: body.count + Int(event.key.start - event.keyValue.start),
      count: Int(event.key.count))
    body.append(contentsOf: arena.rawSpan.extracting(event.keyValue))
    let at = free.popLast() ?? Int32(all.count)
    let generation = Int(at) < all.count ? all[Int(at)].generation &+ 1 : 0
    let record = Record(
      body: body, key: key, revision: event.revision.main, isCreate: event.isCreate,
      generation: generation)
    if Int(at) == all.count { all.append(record) } else { all[Int(at)] = record }
    return at
  }

  mutating func retain(_ record: Int32) { all[Int(record)].references += 1 }

  mutating func release(_ record: Int32) {
    let at = Int(record)
    all[at].references -= 1
    guard all[at].references == 0 else { return }
    all[at].body = []
    all[at].previous = .notWanted
    free.append(record)
  }

  mutating func wantPrevious(_ record: Int32) {
    let at = Int(record)
    guard !all[at].isCreate, case .notWanted = all[at].previous else { return }
    all[at].previous = .wanted
    asking.append((record, all[at].generation))
  }

  mutating func setPrevious(_ record: Int32, _ generation: UInt32, _ previous: RawSpan?) {
    let at = Int(record)
    guard at < all.count, all[at].generation == generation, all[at].references > 0 else { return }
    if let previous {
      all[at].previous = .known(previous.copied())
    } else {
      all[at].previous = .absent
    }
  }
}
