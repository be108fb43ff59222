internal import API
internal import Basics
internal import MVCC

/// A watcher is told of every change in its range once, in the order of revisions, none missing,
/// whatever member it asks; and a revision that it is told to have reached has no change that it
/// was not told of. etcd: api guarantees of Watch; issues 15220 (progress), 17780 (lost events).
enum WatchOrder {
  static func problem(
    _ response: [UInt8], revision: Int64, next: inout Int64, _ ledger: borrowing Ledger,
    _ key: [UInt8], _ end: [UInt8], wantsPrevious: Bool, count: inout Int
  ) -> String? {
    var expected: ArraySlice<Ledger.Place> = []
    var last = next - 1
    var reader = ProtoReader(response.rawSpan)
    var hasEvents = false
    while let tag = try? reader.nextTag() {
      guard tag.field == 11, tag.wire == .lengthDelimited, let slice = try? reader.bytes(tag),
        let event = try? EventView(response.rawSpan, in: slice), let kv = event.kv,
        let view = try? KeyValueView(response.rawSpan, in: kv)
      else {
        if (try? reader.skip(tag)) == nil { break }
        continue
      }
      hasEvents = true
      count += 1
      guard view.modRevision >= next else {
        return "revision \(view.modRevision) comes again, all before \(next) was told"
      }
      if view.modRevision > last {
        guard expected.isEmpty else { return "a revision before \(view.modRevision) is cut short" }
        expected = ledger.changes(from: last + 1, to: view.modRevision, key, end)[...]
        last = view.modRevision
      }
      guard let wanted = expected.popFirst() else {
        return "revision \(view.modRevision) has a change too many"
      }
      guard wanted.revision == view.modRevision else {
        return "revision \(wanted.revision) is missing before \(view.modRevision)"
      }
      let change = ledger.changes(at: wanted.revision)[wanted.sub]
      guard change.keyValue.rawSpan.equals(response.rawSpan.extracting(kv)) else {
        return "revision \(wanted.revision) comes with another change"
      }
      if wantsPrevious, let previous = event.prevKV {
        let before = ledger.find(change.key, at: wanted.revision - 1)?.keyValue
        guard let before, before.rawSpan.equals(response.rawSpan.extracting(previous)) else {
          return "revision \(wanted.revision) comes with another previous value"
        }
      }
    }
    guard expected.isEmpty else { return "revision \(last) is cut short" }
    if !hasEvents, revision > last {
      let missing = ledger.changes(from: last + 1, to: revision, key, end)
      guard missing.isEmpty else {
        return "progress to \(revision), untold is \(missing[0].revision)"
      }
      last = revision
    }
    next = max(next, last + 1)
    return nil
  }
}
