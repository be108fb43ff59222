import Basics
import MVCC
import Testing

/// Random writes, compactions, streams that stall and come back, watches made and cancelled: what
/// each watcher gets is held against the history.
@Suite struct `Watch hub, any history` {
  struct Watch {
    var stream: UInt64
    var id: Int64
    var from: [UInt8]
    var to: [UInt8]
    var start: Int64
    var noPut: Bool
    var noDelete: Bool
    var previous: Bool
    var got: [DecodedEvent] = []
    var lastHeader: UInt64 = 0
    var isOver = false
    var wasCompacted: UInt64 = 0
  }

  struct World: ~Copyable {
    var random: Random
    var store = WatchStore()
    var hub: WatchHub
    var watches: [Watch] = []
    var stalled: Set<UInt64> = []

    init(seed: UInt64) {
      random = Random(seed: seed)
      var limits = WatchHub.Limits()
      limits.queuedBytesMax = 200 + random.next(below: 3000)
      limits.responseBytesMax = 50 + random.next(below: 1000)
      limits.responseRevisionsMax = 1 + random.next(below: 20)
      limits.stepWatchersMax = 1 + random.next(below: 10)
      limits.fragmentBytes = 150 + random.next(below: 400)
      hub = WatchHub(limits: limits, currentRevision: 1, compactRevision: 0, seed: seed)
    }

    mutating func key() -> [UInt8] {
      let letters = (0..<1 + random.next(below: 2)).map { _ in UInt8(97 + random.next(below: 4)) }
      return random.chance(1, in: 8) ? letters + [0] : letters
    }

    mutating func write() {
      let count = 1 + random.next(below: 3)
      var writes: [(key: [UInt8], value: [UInt8]?)] = []
      for _ in 0..<count {
        let key = key()
        if writes.contains(where: { $0.key == key }) { continue }
        let value = [UInt8](repeating: 120, count: random.next(below: 60))
        writes.append((key, random.chance(1, in: 3) ? nil : value))
      }
      store.write(writes)
      // Events may come later than the store has them, many transactions at once.
      if random.chance(2, in: 3) { publish() }
    }

    mutating func publish() {
      guard hub.currentRevision < store.revision else { return }
      hub.publish(store.batch(from: hub.currentRevision + 1, to: store.revision))
    }

    mutating func create() {
      var request = WatchHub.Request()
      request.key = key()
      switch random.next(below: 4) {
      case 0: request.rangeEnd = [0]
      case 1: request.rangeEnd = request.key + [UInt8(random.next(below: 200) + 1)]
      case 2:
        let other = key()
        if request.key.lexicographicallyPrecedes(other) { request.rangeEnd = other }
      default: break
      }
      let back = Int64(random.next(below: 40))
      request.startRevision = random.chance(1, in: 2) ? 0 : max(1, store.revision + 5 - back)
      request.noPut = random.chance(1, in: 8)
      request.noDelete = random.chance(1, in: 8)
      request.previousKeyValue = random.chance(1, in: 3)
      request.fragment = random.chance(1, in: 3)
      let stream = UInt64(random.next(below: 4))
      let result = hub.create(.init(stream), request, storeRevision: store.revision)
      guard case .created(let id) = result else { return }
      let start = request.startRevision == 0 ? store.revision + 1 : request.startRevision
      let to = request.rangeEnd.isEmpty ? request.key + [0] : request.rangeEnd
      watches.append(
        Watch(
          stream: stream, id: id, from: request.key, to: to == [0] ? [] : to, start: start,
          noPut: request.noPut, noDelete: request.noDelete, previous: request.previousKeyValue))
    }

    mutating func take(bytesMax: Int) {
      for (stream, answer) in hub.drain(store, bytesMax: bytesMax) {
        #expect(!stalled.contains(stream))
        let at = watches.lastIndex { $0.stream == stream && $0.id == answer.watchID && !$0.isOver }
        guard let at else {
          // Progress of the stream, or the cancel of a watch that a compaction had ended.
          #expect(answer.watchID == -1 || answer.canceled && answer.events.isEmpty)
          continue
        }
        // Neither header nor events go back; a watch that a compaction ends has no header revision.
        if answer.compactRevision > 0 {
          #expect(answer.revision == 0)
        } else {
          #expect(answer.revision >= watches[at].lastHeader)
          watches[at].lastHeader = answer.revision
        }
        if let last = answer.events.last { #expect(answer.revision >= last.modRevision) }
        watches[at].got += answer.events
        if answer.canceled {
          watches[at].isOver = true
          watches[at].wasCompacted = answer.compactRevision
          if answer.compactRevision > 0 {
            _ = hub.cancel(.init(stream), answer.watchID)
          }
        }
      }
    }

    mutating func step() {
      switch random.next(below: 20) {
      case 0...8: write()
      case 9, 10: create()
      case 11:
        let stream = UInt64(random.next(below: 4))
        guard watches.contains(where: { $0.stream == stream }) else { return }
        if stalled.remove(stream) == nil { stalled.insert(stream) }
        hub.setWritable(.init(stream), !stalled.contains(stream))
      case 12...14: take(bytesMax: 1 + random.next(below: 2000))
      case 15...17:
        hub.catchUp(store, revisionsMax: Int64(1 + random.next(below: 12)), steps: 2)
      case 18 where random.chance(1, in: 3):
        store.compactRevision += Int64(
          random.next(below: Int(hub.currentRevision - store.compactRevision) + 1))
        hub.compacted(store.compactRevision)
      case 18: hub.requestProgress(.init(UInt64(random.next(below: 4))))
      default:
        guard let at = watches.indices.randomElement(using: &random) else { return }
        _ = hub.cancel(.init(watches[at].stream), watches[at].id)
      }
    }

    func wanted(_ watch: Watch) -> [WatchStore.Change] {
      store.changes.filter { change in
        change.revision.main >= watch.start
          && !change.key.lexicographicallyPrecedes(watch.from)
          && (watch.to.isEmpty || change.key.lexicographicallyPrecedes(watch.to))
          && !(change.isDelete ? watch.noDelete : watch.noPut)
      }
    }

    func check(_ watch: Watch) {
      let wanted = wanted(watch)
      let isPrefix =
        watch.got.count <= wanted.count
        && zip(watch.got, wanted).allSatisfy {
          $0.key == $1.key && $0.modRevision == $1.revision.main && $0.isDelete == $1.isDelete
        }
      #expect(isPrefix, "\(watch)")
      if !watch.isOver { #expect(watch.got.count == wanted.count, "\(watch)") }
      for (event, change) in zip(watch.got, wanted) {
        guard let previous = event.previous else { continue }
        let row = store.changes.last { $0.key == change.key && $0.revision < change.revision }?.row
        #expect(watch.previous && previous == row)
      }
      guard watch.isOver, let last = watch.got.last else { return }
      // What ended early ended between revisions.
      let rest = wanted.dropFirst(watch.got.count).first
      #expect(rest.map { $0.revision.main > last.modRevision } ?? true)
    }
  }

  @Test(arguments: 1...60 as ClosedRange<UInt64>)
  func `each watcher gets its events once, in order, without a gap`(seed: UInt64) {
    var world = World(seed: seed)
    for _ in 0..<250 { world.step() }
    for stream in world.stalled { world.hub.setWritable(.init(stream), true) }
    world.stalled = []
    world.publish()
    for _ in 0..<10_000 where world.hub.slowWatcherCount > 0 || world.hub.hasResponses {
      world.take(bytesMax: .max)
      world.hub.catchUp(world.store, revisionsMax: 5, steps: 3)
    }
    #expect(world.hub.slowWatcherCount == 0 && world.hub.queuedEventCount == 0)
    #expect(world.hub.heldEventCount == 0)
    for watch in world.watches { world.check(watch) }
    for stream in 0..<4 as Range<UInt64> { world.hub.closeStream(.init(stream)) }
    #expect(world.hub.watcherCount == 0 && world.hub.streamCount == 0)
  }
}
