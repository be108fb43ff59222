internal import Basics
internal import Raft

/// Logs that agree on an entry's term agree on all before it. Raft thesis §3.5, figure 3.2.
enum LogMatching {
  /// Cost: linear in the entries in memory.
  static func problem(_ one: borrowing Core, _ two: borrowing Core) -> String? {
    let first = max(one.firstIndex, two.firstIndex)
    var index = min(one.lastIndex, two.lastIndex)
    var agrees = false
    while index >= first, index > .zero {
      let isSame = one.term(at: index) == two.term(at: index)
      if agrees && !isSame {
        return "entry \(index.rawValue) differs below one that agrees"
      }
      agrees = isSame
      index = LogIndex(index.rawValue - 1)
    }
    return nil
  }
}
