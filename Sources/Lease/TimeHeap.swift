internal import Basics

/// When leases are to be looked at, one time for each at most: a binary heap whose entries are
/// found by the lease's slot. All changes take logarithmic time.
struct TimeHeap {
  struct Entry {
    var time: UInt64
    var lease: LeaseID
    var slot: Int
  }

  private var entries: [Entry] = []
  /// By slot: the place of its entry; negative for none.
  private var places: [Int] = []

  var count: Int { entries.count }
  /// The earliest; of equal times that of the smallest lease.
  var first: Entry? { entries.first }

  /// Sets the time of a slot's lease, in place of the one that it had.
  mutating func set(_ slot: Int, _ lease: LeaseID, to time: UInt64) {
    while places.count <= slot { places.append(-1) }
    let entry = Entry(time: time, lease: lease, slot: slot)
    var place = places[slot]
    if place < 0 {
      place = entries.count
      places[slot] = place
      entries.append(entry)
    } else {
      entries[place] = entry
    }
    settle(place)
  }

  /// Forgets a slot's lease, if it is there.
  mutating func remove(_ slot: Int) {
    guard slot < places.count, places[slot] >= 0 else { return }
    let place = places[slot]
    let last = entries.count - 1
    swap(place, last)
    entries.removeLast()
    places[slot] = -1
    if place < last { settle(place) }
  }

  /// Moves an entry up or down to where it belongs.
  private mutating func settle(_ start: Int) {
    var place = start
    while place > 0, precedes(place, (place - 1) / 2) {
      swap(place, (place - 1) / 2)
      place = (place - 1) / 2
    }
    while true {
      var least = place
      for child in [2 * place + 1, 2 * place + 2]
      where child < entries.count && precedes(child, least) { least = child }
      if least == place { return }
      swap(place, least)
      place = least
    }
  }

  private mutating func swap(_ a: Int, _ b: Int) {
    guard a != b else { return }
    entries.swapAt(a, b)
    places[entries[a].slot] = a
    places[entries[b].slot] = b
  }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    (entries[a].time, entries[a].lease) < (entries[b].time, entries[b].lease)
  }
}
