internal import Basics

/// The log since the last compaction, in memory, with three marks:
///
///     compacted | … stable … | … handed … | … not yet handed … last
///
/// `stable` is durable here, `handed` was given out to be written, the rest waits for the next
/// output. A write is known by its sequence number; when the log is cut, the acknowledgements
/// of earlier writes count only for what lies before the cut.
struct MemoryLog: ~Copyable {
  private(set) var entries: [Entry] = []
  /// The entry before `entries[0]`.
  private(set) var compactedIndex: LogIndex
  private(set) var compactedTerm: Term
  private(set) var stable: LogIndex
  private(set) var handed: LogIndex
  private(set) var commit: LogIndex

  private(set) var writeSequence: UInt64 = 0
  private(set) var durableSequence: UInt64 = 0
  private struct Cut {
    var sequence: UInt64
    var index: LogIndex
  }
  private var cuts: [Cut] = []

  init(compactedIndex: LogIndex, compactedTerm: Term, entries: [Entry], commit: LogIndex) {
    self.compactedIndex = compactedIndex
    self.compactedTerm = compactedTerm
    self.entries = entries
    var index = compactedIndex
    var term = compactedTerm
    for entry in entries {
      precondition(entry.index == index + 1 && entry.term >= term, "the log has a gap")
      index = entry.index
      term = entry.term
    }
    stable = index
    handed = index
    self.commit = max(commit, compactedIndex)
    precondition(self.commit <= index, "the log lacks committed entries")
  }

  var firstIndex: LogIndex { compactedIndex + 1 }
  var lastIndex: LogIndex { compactedIndex + entries.count }
  var lastTerm: Term { entries.last?.term ?? compactedTerm }
  var isDurable: Bool { durableSequence == writeSequence }

  private func offset(_ index: LogIndex) -> Int { index - compactedIndex - 1 }

  /// The term at `index`; nil when it was compacted or does not exist.
  func term(at index: LogIndex) -> Term? {
    if index == compactedIndex { return compactedTerm }
    guard index > compactedIndex, index <= lastIndex else { return nil }
    return entries[offset(index)].term
  }

  func entry(at index: LogIndex) -> Entry { entries[offset(index)] }

  func kind(at index: LogIndex) -> EntryKind { entries[offset(index)].kind }

  func bytes(at index: LogIndex) -> Int { entries[offset(index)].bytes }

  func bytes(upTo index: LogIndex) -> Int {
    guard index > compactedIndex else { return 0 }
    return entries[...offset(min(index, lastIndex))].reduce(0) { $0 + $1.bytes }
  }

  /// Whether a log that ends so is at least as up to date as this one. Thesis §3.6.1.
  func isUpToDate(lastIndex: LogIndex, lastTerm: Term) -> Bool {
    lastTerm > self.lastTerm || lastTerm == self.lastTerm && lastIndex >= self.lastIndex
  }

  /// Entries from `index` on, up to `bytesMax`, but at least one if there is any.
  func slice(from index: LogIndex, bytesMax: Int) -> (entries: [Entry], bytes: Int) {
    precondition(index > compactedIndex)
    guard index <= lastIndex else { return ([], 0) }
    let start = offset(index)
    var end = start
    var bytes = 0
    while end < entries.count {
      let size = entries[end].bytes
      if end > start, bytes + size > bytesMax { break }
      bytes += size
      end += 1
    }
    return (Array(entries[start..<end]), bytes)
  }

  /// The newest index at or below `index` whose term is not above `term`.
  func newest(atOrBelow index: LogIndex, notAbove term: Term) -> LogIndex {
    var candidate = min(index, lastIndex)
    while candidate > compactedIndex, entries[offset(candidate)].term > term {
      candidate = LogIndex(candidate.rawValue - 1)
    }
    return candidate
  }

  mutating func append(_ entry: Entry) {
    precondition(entry.index == lastIndex + 1 && entry.term >= lastTerm)
    entries.append(entry)
  }

  /// Takes entries that follow an entry known to match: drops what conflicts, adds what is new.
  mutating func merge(_ incoming: [Entry]) {
    for (position, entry) in incoming.enumerated() {
      guard entry.index > compactedIndex else { continue }
      if let term = term(at: entry.index) {
        if term == entry.term { continue }
        precondition(entry.index > commit, "an entry conflicts with a committed one")
        cut(from: entry.index)
      }
      entries.append(contentsOf: incoming[position...])
      return
    }
  }

  private mutating func cut(from index: LogIndex) {
    let kept = LogIndex(index.rawValue - 1)
    entries.removeLast(lastIndex - kept)
    note(cutAt: kept)
    stable = min(stable, kept)
    handed = min(handed, kept)
  }

  private mutating func note(cutAt kept: LogIndex) {
    if writeSequence > durableSequence { cuts.append(Cut(sequence: writeSequence, index: kept)) }
  }

  /// Moves the commit index; never back. False when it was there already.
  mutating func commit(to index: LogIndex) -> Bool {
    guard index > commit else { return false }
    precondition(index <= lastIndex, "the log lost entries that it had acknowledged")
    commit = index
    return true
  }

  /// Begins anew after a snapshot.
  mutating func restore(index: LogIndex, term: Term) {
    precondition(index > commit)
    entries.removeAll()
    note(cutAt: index)
    compactedIndex = index
    compactedTerm = term
    commit = index
    stable = index
    handed = index
  }

  /// Gives out what was not yet given out to be written.
  mutating func hand(into output: inout [Entry]) {
    let start = offset(handed + 1)
    output.append(contentsOf: entries[start...])
    handed = lastIndex
  }

  /// Numbers the write that is about to be given out.
  mutating func beginWrite() -> WriteMark {
    writeSequence += 1
    return WriteMark(sequence: writeSequence, last: handed)
  }

  /// Notes that the write and all before it are durable.
  mutating func finishWrite(_ mark: WriteMark) {
    precondition(mark.sequence <= writeSequence)
    guard mark.sequence > durableSequence else { return }
    durableSequence = mark.sequence
    var durable = mark.last
    cuts.removeAll { $0.sequence < mark.sequence }
    for cut in cuts { durable = min(durable, cut.index) }
    precondition(durable <= handed)
    stable = max(stable, durable)
    cuts.removeAll { $0.sequence == mark.sequence }
  }

  /// Forgets entries up to `index`.
  mutating func compact(to index: LogIndex) -> Int {
    guard index > compactedIndex, let term = term(at: index) else { return 0 }
    let bytes = bytes(upTo: index)
    entries.removeFirst(index - compactedIndex)
    compactedIndex = index
    compactedTerm = term
    return bytes
  }
}
