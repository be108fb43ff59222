public import Basics

/// A key that a lease holds, as a restart finds it.
public struct LeasedKey: Sendable {
  public var key: [UInt8]
  public var lease: LeaseID
}

extension Store {
  /// Builds the store from what the backend holds: every row is read once, its shape and order
  /// checked, and the index made from it. A compaction that was under way goes on.
  ///
  /// `progress` is called now and then with the number of rows read. `leased` gets the keys that
  /// leases hold. Throws `BackendError.corrupt` with the place of the first broken row.
  /// etcd: mvcc/kvstore.go restore.
  public static func open(
    backend: B, leased: inout [LeasedKey], progress: (Int) -> Void
  ) throws(BackendError) -> Store {
    var store = Store(backend: backend)
    var reader = try backend.makeReader()
    try reader.renew()
    if let index = try store.number(MetaKey.consistentIndex, reader) {
      store.consistentIndex = LogIndex(UInt64(bitPattern: index))
    }
    if let term = try store.number(MetaKey.term, reader) {
      store.consistentTerm = Term(UInt64(bitPattern: term))
    }
    let finished = try store.revision(MetaKey.finishedCompact, reader)
    let scheduled = try store.revision(MetaKey.scheduledCompact, reader)
    if let finished { store.compactRevision = finished }
    try store.readRows(reader, leased: &leased, progress: progress)
    // etcd: rows that are gone may have held the newest revision.
    store.currentRevision = max(store.currentRevision, store.compactRevision)
    if let scheduled, scheduled > store.compactRevision {
      store.compactRevision = scheduled
      store.compaction = Compaction(revision: scheduled)
      store.currentRevision = max(store.currentRevision, scheduled)
    }
    reader.reset()
    return store
  }

  private func number(_ key: [UInt8], _ reader: B.Reader) throws(BackendError) -> Int64? {
    var bytes: [UInt8] = []
    guard try reader.get(.meta, key.rawSpan, into: &bytes) else { return nil }
    guard bytes.count >= 8 else {
      throw .corrupt("bucket meta: \(String(decoding: key, as: UTF8.self)) is cut short")
    }
    return Int64(bitPattern: bytes.rawSpan.bigEndian())
  }

  private func revision(_ key: [UInt8], _ reader: B.Reader) throws(BackendError) -> Int64? {
    guard let main = try number(key, reader) else { return nil }
    guard 0...RevisionKey.mainMax ~= main else {
      throw .corrupt("bucket meta: \(String(decoding: key, as: UTF8.self)) is no revision")
    }
    return main
  }

  private mutating func readRows(
    _ reader: B.Reader, leased: inout [LeasedKey], progress: (Int) -> Void
  ) throws(BackendError) {
    var broken: String?
    var count = 0
    var last = Revision.zero
    var holders: [[UInt8]: LeaseID] = [:]
    var rebuilt = KeyIndex()
    try reader.scan(.key, from: RawSpan(), to: RawSpan()) { key, value in
      guard let row = RevisionKey.read(key) else {
        broken = "bucket key: row \(count) has a key that is no revision"
        return false
      }
      let fields = KeyValueBytes(value)
      // A restore that lets the revision jump leaves a row without anything in it.
      guard row.revision > last, let fields, !fields.key.isEmpty || value.byteCount == 0 else {
        broken = "bucket key: revision \(row.revision.main).\(row.revision.sub) is unreadable"
        return false
      }
      last = row.revision
      let name = value.extracting(fields.key)
      if row.isTombstone {
        rebuilt.restoreTombstone(name, at: row.revision)
        if !holders.isEmpty { holders[name.copied()] = nil }
      } else {
        rebuilt.restore(
          name, created: Revision(main: fields.createRevision, sub: 0), modified: row.revision,
          version: fields.version)
        if fields.lease != 0 {
          holders[name.copied()] = LeaseID(fields.lease)
        } else if !holders.isEmpty {
          holders[name.copied()] = nil
        }
      }
      count += 1
      if count & 0xffff == 0 { progress(count) }
      return true
    }
    if let broken { throw .corrupt(broken) }
    index = rebuilt
    currentRevision = max(1, last.main)
    leased = holders.map { LeasedKey(key: $0.key, lease: $0.value) }
      .sorted { $0.key.rawSpan.compare($1.key.rawSpan) < 0 }
  }
}
