internal import Raft
internal import Services

/// The threads of a member's shell; here each is a turn that the queue gives.
enum ThreadName: Int, CaseIterable {
  case raft, wal, apply, store, loop, peers
}

/// What happens at a moment of virtual time. `run` is the member's start that the event belongs
/// to: what was meant for an earlier one is void.
enum Event {
  case turn(host: Int, run: Int, thread: ThreadName)
  /// The log's write under way reached the disk.
  case written(host: Int, run: Int)
  /// The backend's commit under way is done.
  case committed(host: Int, run: Int)
  case deliver(Packet)
  /// A question for the leader, or the answer to one.
  case ask(Ask)
  case answer(Ask, Answered)
  case start(host: Int)
  case toServer(host: Int, run: Int, ClientInput, CallID)
  case toClient(Int, ClientEvent)
  case client(Int, timer: UInt64)
  /// A member that was removed is switched off.
  case retire(host: Int)
  case nemesis
  case check
}

/// A message on its way between members; `store` goes with a snapshot.
struct Packet {
  var message: Message
  var store: [UInt8]?
}

/// Virtual time: events by time, those of one moment in the order of their making.
struct EventQueue {
  private struct Item {
    var time: UInt64
    var order: UInt64
    var slot: Int
  }

  private var heap: [Item] = []
  private var slots: [Event?] = []
  private var free: [Int] = []
  private var order: UInt64 = 0

  var nextTime: UInt64? { heap.first?.time }

  mutating func add(_ event: Event, at time: UInt64) {
    let slot = free.popLast() ?? slots.count
    if slot == slots.count { slots.append(event) } else { slots[slot] = event }
    order += 1
    heap.append(Item(time: time, order: order, slot: slot))
    var child = heap.count - 1
    while child > 0, precedes(child, (child - 1) / 2) {
      heap.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func next() -> (time: UInt64, event: Event)? {
    guard let first = heap.first, let event = slots[first.slot].take() else { return nil }
    free.append(first.slot)
    let last = heap.removeLast()
    guard !heap.isEmpty else { return (first.time, event) }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2]
      where child < heap.count && precedes(child, least) { least = child }
      if least == parent { return (first.time, event) }
      heap.swapAt(parent, least)
      parent = least
    }
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    (heap[a].time, heap[a].order) < (heap[b].time, heap[b].order)
  }
}
