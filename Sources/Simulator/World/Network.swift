internal import Basics
internal import Raft

/// The links between members: each direction has its own luck.
struct Network {
  struct Settings {
    var delayMin: UInt64
    var delayMax: UInt64
    /// Out of a thousand messages.
    var lost: Int
    var repeated: Int
    var delayed: Int
    /// Whether a link keeps its order, as one connection does.
    var isOrdered: Bool
  }

  private struct Link {
    var from: NodeID
    var to: NodeID
    var isCut = false
    /// Messages wait until then.
    var cloggedUntil: UInt64 = 0
    var lastArrival: UInt64 = 0
  }

  var settings: Settings
  private var links: [Link] = []

  init(_ settings: Settings) { self.settings = settings }

  private mutating func position(_ from: NodeID, _ to: NodeID) -> Int {
    if let found = links.firstIndex(where: { $0.from == from && $0.to == to }) { return found }
    links.append(Link(from: from, to: to))
    return links.count - 1
  }

  mutating func isCut(_ from: NodeID, _ to: NodeID) -> Bool { links[position(from, to)].isCut }

  mutating func cut(_ from: NodeID, _ to: NodeID) { links[position(from, to)].isCut = true }

  mutating func clog(_ from: NodeID, _ to: NodeID, until time: UInt64) {
    links[position(from, to)].cloggedUntil = time
  }

  /// Ends every partition and clog.
  mutating func heal() {
    for at in links.indices {
      links[at].isCut = false
      links[at].cloggedUntil = 0
    }
  }

  /// When the message arrives, each copy of it; never when the list is empty.
  mutating func arrivals(
    _ from: NodeID, _ to: NodeID, now: UInt64, random: inout Random
  ) -> [UInt64] {
    let at = position(from, to)
    guard !links[at].isCut, !random.chance(settings.lost, in: 1000) else { return [] }
    var copies = 1
    if random.chance(settings.repeated, in: 1000) { copies += 1 }
    var times: [UInt64] = []
    for copy in 0..<copies {
      let spread = Int(settings.delayMax - settings.delayMin) + 1
      var time = now + settings.delayMin + UInt64(random.next(below: spread))
      if random.chance(settings.delayed, in: 1000) {
        time += UInt64(random.next(below: spread * 20))
      }
      if copy > 0 { time += UInt64(random.next(below: spread * 50)) }
      time = max(time, links[at].cloggedUntil)
      if settings.isOrdered, copy == 0 {
        time = max(time, links[at].lastArrival + 1)
        links[at].lastArrival = time
      }
      times.append(time)
    }
    return times
  }
}
