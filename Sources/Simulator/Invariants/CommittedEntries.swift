internal import Basics
internal import MVCC
internal import Raft
internal import Replica

/// What was committed: the same entry at the same index everywhere, for good, and the same state
/// after it. State Machine Safety, Leader Completeness: Raft thesis §3.6.3, figure 3.2.
struct CommittedEntries {
  private struct Committed {
    var term: Term
    var hash: UInt32
    /// No leader of a later term may lack the entry.
    var committedBy: Term
    /// The store's revision once the entry was applied; nil until that was seen.
    var revision: Int64?
  }

  /// From index 1 on.
  private var entries: [Committed] = []
  /// The newest two configurations that entries were committed in.
  var configurations: [ConfState] = []

  var last: LogIndex { LogIndex(UInt64(entries.count)) }

  mutating func applied(_ entry: Entry, term: Term, by host: Int) -> String? {
    let hash = crc32c(entry.data, seed: UInt32(entry.kind.rawValue))
    let at = Int(entry.index.rawValue) - 1
    guard at >= entries.count else {
      let known = entries[at]
      return known.term == entry.term && known.hash == hash
        ? nil : "\(host) applies another entry \(entry.index.rawValue)"
    }
    guard at == entries.count else {
      return "\(host) applies entry \(entry.index.rawValue), nobody the one before"
    }
    entries.append(Committed(term: entry.term, hash: hash, committedBy: term, revision: nil))
    return nil
  }

  /// The state after an entry is the same on every member.
  mutating func reached(_ replica: borrowing Replica<MemoryBackend>, at index: LogIndex) -> String?
  {
    let at = Int(index.rawValue) - 1
    // What a start applies again leaves the store, which is ahead, as it is.
    guard replica.store.consistentIndex == index, at < entries.count else { return nil }
    let revision = replica.store.currentRevision
    guard let known = entries[at].revision else {
      entries[at].revision = revision
      return nil
    }
    return known == revision
      ? nil : "entry \(index.rawValue) leads to revision \(revision), elsewhere to \(known)"
  }

  /// Whether a store that a start found has the revision that belongs to its index.
  func problem(state index: LogIndex, process: Process) -> String? {
    let at = Int(index.rawValue) - 1
    guard at >= 0, at < entries.count, let known = entries[at].revision else { return nil }
    let revision = process.replica.store.currentRevision
    return revision == known
      ? nil
      : "\(process.host.number) starts at entry \(index.rawValue) with revision \(revision), "
        + "not \(known)"
  }

  /// A new leader has everything that was committed in terms before its own.
  func problem(leader core: borrowing Core) -> String? {
    for (place, entry) in entries.enumerated().reversed() where entry.committedBy < core.term {
      let index = LogIndex(UInt64(place + 1))
      guard index >= core.firstIndex else { return nil }
      guard core.term(at: index) == entry.term else {
        return "the leader of term \(core.term.rawValue) lacks committed entry \(index.rawValue)"
      }
    }
    return nil
  }
}
