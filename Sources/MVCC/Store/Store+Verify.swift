public import Basics

/// What the rows of a store are and what is wrong with them.
public struct StoreReport: Sendable {
  public enum Limits {
    /// Findings that are kept as text; the others are counted.
    public static let findingsMax = 100
  }

  public internal(set) var rows = 0
  public internal(set) var keys = 0
  public internal(set) var currentRevision: Int64 = 0
  public internal(set) var compactRevision: Int64 = 0
  public internal(set) var consistentIndex = LogIndex.zero
  public internal(set) var consistentTerm = Term.zero
  /// Keys that leases hold.
  public internal(set) var leased: [LeasedKey] = []
  public internal(set) var findings: [String] = []
  public internal(set) var findingCount = 0

  mutating func add(_ revision: Revision, _ what: String) {
    findingCount += 1
    guard findings.count < Limits.findingsMax else { return }
    findings.append("bucket key: revision \(revision.main).\(revision.sub) \(what)")
  }
}

extension Store {
  /// Opens the store that `backend` holds and reads its rows once more: each must continue the
  /// row before it of the same key, and the index must say of it what the row says. Throws what
  /// `open` throws. Memory: two key indexes.
  public static func verify(
    backend: B, progress: (Int) -> Void
  ) throws(BackendError) -> StoreReport {
    var report = StoreReport()
    let store = try Store.open(backend: backend, leased: &report.leased, progress: progress)
    report.keys = store.keyCount
    report.currentRevision = store.currentRevision
    report.compactRevision = store.compactRevision
    report.consistentIndex = store.consistentIndex
    report.consistentTerm = store.consistentTerm
    var reader = try backend.makeReader()
    try reader.renew()
    var history = KeyIndex()
    var rows = 0
    try reader.scan(.key, from: RawSpan(), to: RawSpan()) { key, value in
      guard let row = RevisionKey.read(key), let fields = KeyValueBytes(value) else {
        return false
      }
      rows += 1
      if rows & 0xffff == 0 { progress(rows) }
      // A restore that lets the revision jump leaves a row without anything in it.
      guard value.byteCount > 0 else { return true }
      let name = value.extracting(fields.key)
      let hit = store.index.find(name, at: row.revision.main)
      let before = history.find(name, at: store.currentRevision)
      if row.isTombstone {
        let isBare = fields.createRevision == 0 && fields.version == 0 && fields.value.count == 0
        if !isBare { report.add(row.revision, "deletes a key and holds a value") }
        if let hit, hit.modified.main != row.revision.main {
          report.add(row.revision, "deletes a key that the index has")
        }
        if before == nil, row.revision.main > store.compactRevision {
          report.add(row.revision, "deletes a key that is not there")
        }
        history.restoreTombstone(name, at: row.revision)
      } else {
        let found = KeyIndex.Hit(
          modified: row.revision, created: Revision(main: fields.createRevision, sub: 0),
          version: fields.version)
        if let what = fault(found, fields.modRevision, after: before, store.compactRevision) {
          report.add(row.revision, what)
        }
        // A later change of the same transaction may stand in the index.
        let isOwn = hit?.modified == row.revision
        let isEqual = hit?.version == found.version && hit?.created.main == found.created.main
        if isOwn ? !isEqual : hit?.modified.main != row.revision.main {
          report.add(row.revision, "is not what the index has")
        }
        history.restore(
          name, created: found.created, modified: row.revision, version: found.version)
      }
      return true
    }
    reader.reset()
    report.rows = rows
    return report
  }

  /// What is wrong with a put that follows `before`.
  private static func fault(
    _ found: KeyIndex.Hit, _ modRevision: Int64, after before: KeyIndex.Hit?, _ compacted: Int64
  ) -> String? {
    guard modRevision == found.modified.main else {
      return "says that its revision is \(modRevision)"
    }
    guard found.version >= 1, found.created.main >= 1, found.created.main <= modRevision else {
      return "has version \(found.version) of a key created at \(found.created.main)"
    }
    // Rows before this one may be compacted.
    if found.modified.main <= compacted { return nil }
    if let before {
      guard found.version == before.version + 1, found.created.main == before.created.main else {
        return "has version \(found.version) of a key created at \(found.created.main), after "
          + "version \(before.version) of one created at \(before.created.main)"
      }
      return nil
    }
    guard found.version == 1, found.created.main == modRevision else {
      return "has version \(found.version), and there is none before it"
    }
    return nil
  }
}
