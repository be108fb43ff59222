internal import API
internal import Basics
internal import MVCC

/// The history that the members agree on: every change under its revision, as the first member
/// to apply it made it. Revisions have no gap, and all members make the same changes under them.
/// etcd: mvcc; the order of revisions is the order of transactions.
struct Ledger {
  struct Change {
    var kind: EventBatch.Kind
    var key: [UInt8]
    /// The encoded KeyValue.
    var keyValue: [UInt8]
  }

  /// One state of a key.
  struct Version {
    var revision: Int64
    /// The encoded KeyValue; nil when the key was deleted.
    var keyValue: [UInt8]?
    var created: Int64
    var version: Int64
    var lease: LeaseID
  }

  /// By main revision, from 2 on.
  private(set) var revisions: [[Change]] = []
  /// By key, ascending.
  private(set) var keys: [(key: [UInt8], versions: [Version])] = []
  /// The newest revision that some member has finished.
  private(set) var last: Int64 = 1

  func changes(at revision: Int64) -> [Change] {
    revision >= 2 && revision - 2 < Int64(revisions.count) ? revisions[Int(revision) - 2] : []
  }

  mutating func take(_ event: EventBatch.Event, _ batch: EventBatch, _ checks: Checks) -> String? {
    let arena = batch.arena.rawSpan
    let main = event.revision.main
    let key = arena.extracting(event.key)
    let keyValue = arena.extracting(event.keyValue)
    let at = Int(main) - 2
    guard at >= 0, at <= revisions.count else { return "revision \(main) follows \(last)" }
    if at == revisions.count { revisions.append([]) }
    let sub = Int(event.revision.sub)
    if sub < revisions[at].count {
      let known = revisions[at][sub]
      return known.kind == event.kind && known.keyValue.rawSpan.equals(keyValue)
        ? nil : "revision \(main).\(sub) is not the same everywhere"
    }
    guard sub == revisions[at].count else { return "revision \(main) lacks \(sub - 1)" }
    guard main > last else { return "revision \(main) has a change too many" }
    let change = Change(kind: event.kind, key: key.copied(), keyValue: keyValue.copied())
    revisions[at].append(change)
    note(change, main)
    checks.expect("linearizable", checks.linearizability.made(change, main))
    return nil
  }

  /// A transaction has ended at `revision` on some member.
  mutating func reached(_ revision: Int64) -> String? {
    guard revision > last else { return nil }
    guard revision - 1 == Int64(revisions.count) else {
      return "a member is at revision \(revision), its changes end at \(revisions.count + 1)"
    }
    last = revision
    return nil
  }

  private func position(_ key: [UInt8]) -> Int {
    var low = 0
    var high = keys.count
    while low < high {
      let middle = (low + high) / 2
      let found = keys[middle].key
      if found.rawSpan.compare(key.rawSpan) < 0 { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private mutating func note(_ change: Change, _ revision: Int64) {
    let at = position(change.key)
    if at == keys.count || keys[at].key != change.key { keys.insert((change.key, []), at: at) }
    guard change.kind == .put, let view = try? KeyValueView(change.keyValue.rawSpan) else {
      keys[at].versions.append(
        Version(revision: revision, keyValue: nil, created: 0, version: 0, lease: .none))
      return
    }
    keys[at].versions.append(
      Version(
        revision: revision, keyValue: change.keyValue, created: view.createRevision,
        version: view.version, lease: view.lease))
  }

  /// The state of a key at a revision; nil when it was not there.
  func find(_ key: [UInt8], at revision: Int64) -> Version? {
    let at = position(key)
    guard at < keys.count, keys[at].key == key else { return nil }
    return Self.live(keys[at].versions, at: revision)
  }

  private static func live(_ versions: [Version], at revision: Int64) -> Version? {
    var low = 0
    var high = versions.count
    while low < high {
      let middle = (low + high) / 2
      if versions[middle].revision <= revision { low = middle + 1 } else { high = middle }
    }
    guard low > 0, versions[low - 1].keyValue != nil else { return nil }
    return versions[low - 1]
  }

  /// The encoded KeyValues of a range as requests write it, by key.
  func range(_ key: [UInt8], _ end: [UInt8], at revision: Int64) -> [[UInt8]] {
    if end.isEmpty { return find(key, at: revision)?.keyValue.map { [$0] } ?? [] }
    var found: [[UInt8]] = []
    for (name, versions) in keys[position(key)...] {
      guard end == [0] || name.rawSpan.compare(end.rawSpan) < 0 else { break }
      if let value = Self.live(versions, at: revision)?.keyValue { found.append(value) }
    }
    return found
  }
}

extension Ledger {
  /// Where a change stands.
  struct Place {
    var revision: Int64
    var sub: Int
  }

  /// The changes of [from, to] in a range as requests write it, in order.
  func changes(from: Int64, to: Int64, _ key: [UInt8], _ end: [UInt8]) -> [Place] {
    var places: [Place] = []
    var revision = max(from, 2)
    while revision <= to {
      for (sub, change) in changes(at: revision).enumerated() {
        let isIn =
          end.isEmpty
          ? change.key == key
          : change.key.rawSpan.compare(key.rawSpan) >= 0
            && (end == [0] || change.key.rawSpan.compare(end.rawSpan) < 0)
        if isIn { places.append(Place(revision: revision, sub: sub)) }
      }
      revision += 1
    }
    return places
  }
}
