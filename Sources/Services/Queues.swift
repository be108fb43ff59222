internal import API
internal import Basics
internal import Replica

/// Requests that wait for their completions, in the order of their making. All have the same
/// time to wait, so that the first is the first to expire.
struct WaitQueue {
  struct Entry {
    var id: UInt64
    var call: CallID
    var deadline: UInt64
    var isDone: Bool
  }

  private var entries: [Entry] = []
  private var head = 0
  private(set) var count = 0

  mutating func append(id: UInt64, call: CallID, deadline: UInt64) {
    entries.append(Entry(id: id, call: call, deadline: deadline, isDone: false))
    count += 1
  }

  /// The call that waits for `id`, which then waits no longer; nil when none does.
  mutating func take(_ id: UInt64) -> CallID? {
    var low = head
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].id < id { low = middle + 1 } else { high = middle }
    }
    guard low < entries.count, entries[low].id == id, !entries[low].isDone else { return nil }
    entries[low].isDone = true
    count -= 1
    let call = entries[low].call
    trim()
    return call
  }

  /// The next call whose request has waited beyond `now`; nil when none has.
  mutating func expired(_ now: UInt64) -> CallID? {
    guard head < entries.count, entries[head].deadline <= now else { return nil }
    return take(entries[head].id)
  }

  private mutating func trim() {
    while head < entries.count, entries[head].isDone { head += 1 }
    if head == entries.count {
      entries.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 4096, head * 2 >= entries.count {
      entries.removeFirst(head)
      head = 0
    }
  }
}

/// Times at which calls have to be looked at: a binary heap. Calls that are over by then are
/// passed over by whoever asks.
struct DeadlineHeap {
  private var entries: [(time: UInt64, call: CallID)] = []

  var count: Int { entries.count }

  /// Drops the times of calls that are over.
  mutating func drop(where isOver: (CallID) -> Bool) {
    entries.removeAll { isOver($0.call) }
    // What is sorted is a heap.
    entries.sort { ($0.time, $0.call) < ($1.time, $1.call) }
  }

  mutating func insert(_ time: UInt64, _ call: CallID) {
    entries.append((time, call))
    var child = entries.count - 1
    while child > 0, precedes(child, (child - 1) / 2) {
      entries.swapAt(child, (child - 1) / 2)
      child = (child - 1) / 2
    }
  }

  mutating func expired(_ now: UInt64) -> CallID? {
    guard let first = entries.first, first.time <= now else { return nil }
    let last = entries.count - 1
    entries.swapAt(0, last)
    entries.removeLast()
    var parent = 0
    while true {
      var least = parent
      for child in [2 * parent + 1, 2 * parent + 2] where child < last && precedes(child, least) {
        least = child
      }
      if least == parent { return first.call }
      entries.swapAt(parent, least)
      parent = least
    }
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    (entries[a].time, entries[a].call) < (entries[b].time, entries[b].call)
  }
}

/// A read on its way: what is asked, by whom, and until when it may wait.
struct Read {
  enum Kind {
    case range(RangeRequestView)
    case txn(Txn)
    /// A question for the apply thread that has to see all that was committed before it.
    case query(Query.Kind)
    /// The hash that the password of a call's login has to fit.
    case password
  }

  var call: CallID
  var kind: Kind
  /// The bytes that `kind` lies in.
  var message: [UInt8]
  var deadline: UInt64
}

/// Reads by what they wait for.
struct ReadQueue {
  /// For the next read index to be asked for.
  var collecting: [Read] = []
  /// For the answer to `ticket`.
  var asked: [Read] = []
  var ticket: UInt64?
  var askedAt: UInt64 = 0
  /// For the log to be applied up to an index.
  var confirmed: [(index: LogIndex, reads: [Read])] = []
  /// For the store.
  var ready: [Read] = []
  /// For their client to read what it was answered before.
  var held: [Read] = []

  var count: Int {
    confirmed.reduce(collecting.count + asked.count + ready.count + held.count) {
      $0 + $1.reads.count
    }
  }
}
