import Basics
import MVCC
import Testing

@Suite struct `Watch hub` {
  static let stream = WatchHub.StreamID(7)

  static func hub(
    _ store: WatchStore, _ change: (inout WatchHub.Limits) -> Void = { _ in }
  ) -> WatchHub {
    var limits = WatchHub.Limits()
    change(&limits)
    return WatchHub(
      limits: limits, currentRevision: store.revision, compactRevision: store.compactRevision,
      seed: 1)
  }

  static func request(
    _ key: String, _ end: String = "", id: Int64 = 0, start: Int64 = 0
  ) -> WatchHub.Request {
    var request = WatchHub.Request()
    request.key = bytes(key)
    request.rangeEnd = bytes(end)
    request.watchID = id
    request.startRevision = start
    return request
  }

  /// A store of `count` puts of "a", revisions 2 and on, values "v2" and on.
  static func store(puts count: Int) -> WatchStore {
    var store = WatchStore()
    for _ in 0..<count { store.write([(bytes("a"), bytes("v\(store.revision + 1)"))]) }
    return store
  }

  static func write(
    _ store: inout WatchStore, _ hub: inout WatchHub, _ writes: [(key: [UInt8], value: [UInt8]?)]
  ) {
    store.write(writes)
    hub.publish(store.batch(from: hub.currentRevision + 1, to: store.revision))
  }

  @Test func `a watch is created with the revision it starts behind and gets what follows`() {
    var store = Self.store(puts: 3)
    var hub = Self.hub(store)
    let result = hub.create(Self.stream, Self.request("a"), storeRevision: 4)
    #expect(result == .created(watchID: 0))
    Self.write(&store, &hub, [(bytes("a"), bytes("x")), (bytes("b"), bytes("y"))])
    Self.write(&store, &hub, [(bytes("a"), nil)])
    let answers = hub.drain(store)
    #expect(answers.map(\.0) == [7, 7, 7])
    #expect(answers[0].1.created && answers[0].1.revision == 4)
    #expect(answers[0].1.clusterID == 1 << 63 && answers[0].1.raftTerm == 3)
    #expect(answers[1].1.events.map(\.value) == [bytes("x")] && answers[1].1.revision == 5)
    #expect(answers[2].1.events.map(\.isDelete) == [true])
    #expect(answers[2].1.events[0].modRevision == 6)
  }

  @Test func `IDs are the client's choice or the next free one`() {
    let store = WatchStore()
    var hub = Self.hub(store)
    for (id, wanted) in [(0, 0), (1, 1), (0, 2), (-1, 3), (77, 77)] as [(Int64, Int64)] {
      let result = hub.create(Self.stream, Self.request("a", id: id), storeRevision: 1)
      #expect(result == .created(watchID: wanted))
    }
    let result = hub.create(Self.stream, Self.request("b", id: 77), storeRevision: 1)
    #expect(result == .refused)
    let last = hub.drain(store).last!.1
    #expect(last.created && last.canceled && last.watchID == -1)
    #expect(last.reason == "mvcc: duplicate watch ID provided on the WatchStream")
    let other = hub.create(.init(8), Self.request("b", id: 77), storeRevision: 1)
    #expect(other == .created(watchID: 77))
  }

  @Test(
    arguments: [
      ("b", "a", 0, "mvcc: watcher range is empty"), ("b", "b", 0, "mvcc: watcher range is empty"),
      ("a", "b", -1, "etcdserver: mvcc: required revision has been compacted"),
    ] as [(String, String, Int64, String)])
  func `a request that makes no sense is answered with its reason`(
    key: String, end: String, start: Int64, reason: String
  ) {
    let store = WatchStore()
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request(key, end, start: start), storeRevision: 1)
    let answer = hub.drain(store)[0].1
    #expect(answer.created && answer.canceled && answer.watchID == -1 && answer.reason == reason)
    #expect(hub.watcherCount == 0)
  }

  @Test func `ranges are half open, and an end of zero is no end`() {
    var store = WatchStore()
    var hub = Self.hub(store)
    for (id, key, end) in [(1, "b", "d"), (2, "c", "\0"), (3, "", "\0"), (4, "c", "")] {
      _ = hub.create(Self.stream, Self.request(key, end, id: Int64(id)), storeRevision: 1)
    }
    Self.write(&store, &hub, ["a", "b", "c", "c\0", "d", "e"].map { (bytes($0), []) })
    var got: [Int64: String] = [:]
    for (_, answer) in hub.drain(store) where !answer.created {
      got[answer.watchID, default: ""] += answer.events
        .map { String(decoding: $0.key, as: UTF8.self) }.joined()
    }
    #expect(got == [1: "bcc\0", 2: "cc\0de", 3: "abcc\0de", 4: "c"])
  }

  @Test func `filters leave out kinds, and a response that they empty`() {
    var store = WatchStore()
    var hub = Self.hub(store)
    var noPut = Self.request("a", id: 1)
    noPut.noPut = true
    var noDelete = Self.request("a", id: 2)
    noDelete.noDelete = true
    _ = hub.create(Self.stream, noPut, storeRevision: 1)
    _ = hub.create(Self.stream, noDelete, storeRevision: 1)
    Self.write(&store, &hub, [(bytes("a"), bytes("1"))])
    Self.write(&store, &hub, [(bytes("a"), nil)])
    let answers = hub.drain(store).filter { !$0.1.created }
    #expect(answers.map(\.1.watchID) == [2, 1])
    #expect(answers.map(\.1.events[0].isDelete) == [false, true])
  }

  @Test func `previous values come with all events but creates, and are asked for once`() {
    var store = WatchStore()
    var hub = Self.hub(store)
    for id in 1...3 {
      var request = Self.request("a", id: Int64(id))
      request.previousKeyValue = id < 3
      _ = hub.create(Self.stream, request, storeRevision: 1)
    }
    Self.write(&store, &hub, [(bytes("a"), bytes("1"))])
    Self.write(&store, &hub, [(bytes("a"), bytes("2"))])
    Self.write(&store, &hub, [(bytes("a"), nil)])
    var asked: [Int64] = []
    while let request = hub.nextPrevious() {
      asked.append(request.revision)
      let row = store.previous(request.key, at: request.revision) ?? []
      hub.resolve(request, row.rawSpan)
    }
    #expect(asked == [2, 3])
    for (_, answer) in hub.drain(store) where !answer.created {
      for event in answer.events {
        let isWanted = answer.watchID < 3 && event.modRevision > 2
        let row = isWanted ? store.previous(bytes("a"), at: event.modRevision - 1) : nil
        #expect(event.previous == row)
      }
    }
  }

  @Test func `a response waits for its previous value, and goes without one that is compacted`() {
    var store = Self.store(puts: 1)
    var hub = Self.hub(store)
    var request = Self.request("a")
    request.previousKeyValue = true
    _ = hub.create(Self.stream, request, storeRevision: 2)
    Self.write(&store, &hub, [(bytes("a"), bytes("2"))])
    var output = WatchOutput()
    hub.takeResponses(
      WatchIdentity(clusterID: 1, memberID: 1, raftTerm: 1), into: &output, bytesMax: 1000)
    #expect(output.messages.count == 1)
    store.compactRevision = 3
    let answers = hub.drain(store)
    #expect(answers.count == 1 && answers[0].1.events[0].previous == nil)
  }

  @Test func `a watch in the past catches up in whole revisions and goes on live`() {
    var store = Self.store(puts: 2500)
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a", start: 2), storeRevision: store.revision)
    #expect(hub.slowWatcherCount == 1)
    hub.catchUp(store)
    #expect(hub.slowWatcherCount == 0)
    Self.write(&store, &hub, [(bytes("a"), bytes("x"))])
    let answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.events.count) == [0, 1000, 1000, 500, 1])
    #expect(answers.flatMap { $0.events.map(\.modRevision) } == Array(2...2502))
    #expect(answers.map(\.revision) == [2501, 2501, 2501, 2501, 2502])
  }

  @Test func `a start in the future gets nothing before it`() {
    var store = Self.store(puts: 1)
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a", start: 5), storeRevision: 2)
    for _ in 0..<5 { Self.write(&store, &hub, [(bytes("a"), bytes("x"))]) }
    let revisions = hub.drain(store).flatMap { $0.1.events.map(\.modRevision) }
    #expect(revisions == [5, 6, 7])
  }

  @Test func `a watch from now on starts behind the store though events are on their way`() {
    var store = Self.store(puts: 1)
    var hub = Self.hub(store)
    store.write([(bytes("a"), bytes("x"))])
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: store.revision)
    hub.requestProgress(Self.stream)
    hub.publish(store.batch(from: 3, to: 3))
    let answers = hub.drain(store).map(\.1)
    #expect(answers.count == 2 && answers.allSatisfy { $0.revision == 3 && $0.events.isEmpty })
    #expect(answers[1].watchID == -1)
  }

  @Test func `a watcher behind the compaction is cancelled and keeps its ID until then`() {
    var store = Self.store(puts: 9)
    store.compactRevision = 5
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a", start: 4), storeRevision: 10)
    _ = hub.create(Self.stream, Self.request("a", id: 9, start: 5), storeRevision: 10)
    var answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.canceled) == [false, true, false])
    #expect(answers[1].compactRevision == 5 && answers[1].watchID == 0 && !answers[1].created)
    hub.compacted(6)
    answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.watchID) == [9] && answers[0].compactRevision == 6)
    #expect(hub.slowWatcherCount == 0)
    let again = hub.create(Self.stream, Self.request("a", id: 9), storeRevision: 10)
    #expect(again == .refused)
    let (first, second) = (hub.cancel(Self.stream, 9), hub.cancel(Self.stream, 9))
    #expect(first && !second)
  }

  @Test func `a cancelled watcher is answered behind its events and gets no more`() {
    var store = WatchStore()
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: 1)
    Self.write(&store, &hub, [(bytes("a"), bytes("1"))])
    let was = hub.cancel(Self.stream, 0)
    #expect(was)
    Self.write(&store, &hub, [(bytes("a"), bytes("2"))])
    let answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.events.count) == [0, 1, 0])
    #expect(answers[2].canceled && answers[2].revision == 2 && answers[2].reason == "")
  }

  @Test func `a big response is cut into fragments where asked for`() {
    var store = WatchStore()
    var hub = Self.hub(store) { $0.fragmentBytes = 1000 }
    for id in 1...2 {
      var request = Self.request("", "\0", id: Int64(id))
      request.fragment = id == 1
      _ = hub.create(Self.stream, request, storeRevision: 1)
    }
    let value = [UInt8](repeating: 1, count: 300)
    Self.write(&store, &hub, (0..<7).map { (bytes("k\($0)"), value) })
    Self.write(&store, &hub, [(bytes("k"), [UInt8](repeating: 2, count: 5000))])
    let answers = hub.drain(store).map(\.1).filter { !$0.created }
    let cut = answers.filter { $0.watchID == 1 }
    #expect(cut.map(\.events.count) == [3, 3, 1, 1])
    #expect(cut.map(\.fragment) == [true, true, false, false])
    #expect(answers.filter { $0.watchID == 2 }.map(\.events.count) == [7, 1])
  }

  @Test func `a stream that takes nothing stays bounded and loses nothing`() {
    var store = WatchStore()
    var hub = Self.hub(store) {
      $0.queuedBytesMax = 10_000
      $0.responseBytesMax = 2000
    }
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: 1)
    hub.setWritable(Self.stream, false)
    for _ in 0..<100 {
      Self.write(&store, &hub, [(bytes("a"), [UInt8](repeating: 1, count: 1000))])
    }
    #expect(hub.queuedBytes(of: Self.stream) < 12_000 && hub.slowWatcherCount == 1)
    #expect(hub.nextCatchUp() == nil)
    #expect(hub.drain(store).isEmpty)
    hub.setWritable(Self.stream, true)
    var revisions: [Int64] = []
    while revisions.last != 101 {
      let got = hub.drain(store).flatMap { $0.1.events.map(\.modRevision) }
      revisions += got
      hub.catchUp(store, revisionsMax: 7)
      #expect(hub.queuedBytes(of: Self.stream) < 12_000)
    }
    #expect(revisions == Array(2...101))
    #expect(hub.slowWatcherCount == 0 && hub.queuedEventCount == 0)
  }

  @Test func `progress is told to quiet watchers only, each interval`() {
    var store = WatchStore()
    var hub = Self.hub(store) { $0.progressIntervalNanoseconds = 1000 }
    for id in 1...2 {
      var request = Self.request(id == 1 ? "a" : "b", id: Int64(id))
      request.progressNotify = true
      _ = hub.create(Self.stream, request, storeRevision: 1)
    }
    _ = hub.create(Self.stream, Self.request("c", id: 3), storeRevision: 1)
    _ = hub.drain(store)
    hub.tick(now: 0)
    Self.write(&store, &hub, [(bytes("a"), bytes("1"))])
    _ = hub.drain(store)
    hub.tick(now: 999)
    let isEarly = hub.hasResponses
    #expect(!isEarly)
    hub.tick(now: 1100)
    let first = hub.drain(store).map(\.1)
    #expect(first.map(\.watchID) == [2] && first[0].revision == 2 && first[0].events.isEmpty)
    hub.tick(now: 2300)
    #expect(hub.drain(store).map(\.1.watchID) == [1, 2])
  }

  @Test func `progress on request waits until all watchers of the stream are synced`() {
    let store = Self.store(puts: 5)
    var hub = Self.hub(store)
    hub.requestProgress(Self.stream)
    _ = hub.create(Self.stream, Self.request("b"), storeRevision: 6)
    _ = hub.create(Self.stream, Self.request("a", start: 2), storeRevision: 6)
    hub.requestProgress(Self.stream)
    #expect(hub.drain(store).count == 2)
    hub.catchUp(store, revisionsMax: 2, steps: 1)
    #expect(hub.drain(store).map(\.1.events.count) == [2])
    hub.catchUp(store)
    let answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.events.count) == [3, 0])
    #expect(answers[1].watchID == -1 && answers[1].revision == 6)
  }

  @Test func `after a snapshot watchers read on from where they were`() {
    var store = Self.store(puts: 3)
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: 4)
    for _ in 0..<5 { store.write([(bytes("a"), bytes("s"))]) }
    hub.storeReplaced(revision: store.revision, compactRevision: 0)
    hub.catchUp(store)
    let revisions = hub.drain(store).flatMap { $0.1.events.map(\.modRevision) }
    #expect(revisions == Array(5...9))
  }

  /// A look at the new store may come before the news of it.
  @Test func `a snapshot's compaction cancels who stands before it, known or not`() {
    let store = Self.store(puts: 3)
    var hub = Self.hub(store)
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: 4)
    _ = hub.drain(store)
    hub.compacted(20)
    hub.storeReplaced(revision: 30, compactRevision: 20)
    let answers = hub.drain(store).map(\.1)
    #expect(answers.map(\.canceled) == [true] && answers[0].compactRevision == 20)
    #expect(hub.nextCatchUp() == nil)
  }

  /// The store is compacted at its newest revision, whose events are still on their way here.
  @Test func `who falls behind the compaction later is cancelled when its past is asked for`() {
    var store = Self.store(puts: 3)
    var hub = Self.hub(store) { $0.queuedBytesMax = 1 }
    _ = hub.create(Self.stream, Self.request("a"), storeRevision: 4)
    _ = hub.drain(store)
    for _ in 0..<5 { store.write([(bytes("a"), bytes("s"))]) }
    hub.compacted(store.revision)
    for revision in 5...store.revision {
      hub.publish(store.batch(from: revision, to: revision))
    }
    _ = hub.drain(store)
    guard let step = hub.nextCatchUp() else {
      Issue.record("nobody fell behind")
      return
    }
    hub.cancel(before: step.from + 1)
    #expect(hub.drain(store).map(\.1).map(\.canceled) == [true])
    #expect(hub.nextCatchUp() == nil)
  }
}
