public import Basics

/// From each key to its revisions: which of them is the key's state at a given revision.
///
/// A B+tree over raw nodes; a key, its newest revision and its bytes are one allocation, older
/// revisions a second one. Reads only borrow: many threads may read at once while none writes.
/// etcd: mvcc `treeIndex`, `keyIndex`.
public struct KeyIndex: ~Copyable {
  /// The state of a live key.
  public struct Hit: Hashable, Sendable {
    /// The put that gave the key its value.
    public var modified: Revision
    /// The put that made the key.
    public var created: Revision
    /// Puts since the key was made.
    public var version: Int64

    public init(modified: Revision, created: Revision, version: Int64) {
      self.modified = modified
      self.created = created
      self.version = version
    }
  }

  /// Versions that rows tell: there is always a next one.
  private static let versionMax = Int64.max / 2

  var root = Node.make(isLeaf: true)
  /// Keys that the tree holds, with those that only have a tombstone left.
  var heldCount = 0
  /// The main revision of the newest change.
  var newestRevision: Int64 = 0

  /// Keys that are live at the newest revision.
  public internal(set) var keyCount = 0
  /// Bytes allocated for nodes, keys and revisions.
  public internal(set) var memoryBytes = Node.bytes(isLeaf: true)

  public init() {}

  deinit { Self.free(root) }

  // MARK: Changes

  /// Records a put; returns the key's new state. Revisions of one key must ascend.
  public mutating func put(_ key: RawSpan, at revision: Revision) -> Hit {
    noteRevision(revision)
    guard let entry = lookUp(key) else {
      let change = Change(modified: revision, created: revision, version: 1)
      insert(Entry.make(key: key, newest: change))
      keyCount += 1
      return change.hit
    }
    let last = entry.newest
    let isNew = last.isTombstone
    let change = Change(
      modified: revision,
      created: isNew ? revision : last.hit.created,
      version: isNew ? 1 : last.version + 1)
    push(change, to: entry)
    if isNew { keyCount += 1 }
    return change.hit
  }

  /// Records a delete. False, and nothing recorded, when the key is not live.
  public mutating func tombstone(_ key: RawSpan, at revision: Revision) -> Bool {
    guard let entry = lookUp(key), !entry.newest.isTombstone else { return false }
    noteRevision(revision)
    let last = entry.newest
    push(
      Change(modified: revision, created: last.hit.created, version: -(last.version + 1)),
      to: entry)
    keyCount -= 1
    return true
  }

  /// Records a put with the state that its row tells, while the index is rebuilt: the revisions
  /// before it may be compacted. Rows come in ascending order of revision.
  public mutating func restore(
    _ key: RawSpan, created: Revision, modified: Revision, version: Int64
  ) {
    noteRevision(modified)
    let version = min(max(version, 1), Self.versionMax)
    let change = Change(modified: modified, created: created, version: version)
    guard let entry = lookUp(key) else {
      insert(Entry.make(key: key, newest: change))
      keyCount += 1
      return
    }
    if entry.newest.isTombstone { keyCount += 1 }
    push(change, to: entry)
  }

  /// Records a delete from its row while the index is rebuilt; the key may be unknown, as its puts
  /// may be compacted. etcd: `restoreTombstone`.
  public mutating func restoreTombstone(_ key: RawSpan, at revision: Revision) {
    if tombstone(key, at: revision) { return }
    noteRevision(revision)
    let change = Change(modified: revision, created: .zero, version: -1)
    if let entry = lookUp(key) {
      push(change, to: entry)
    } else {
      insert(Entry.make(key: key, newest: change))
    }
  }

  // MARK: Reads

  /// The key's state at main revision `revision`; nil when it is not live there.
  public borrowing func find(_ key: RawSpan, at revision: Int64) -> Hit? {
    guard let change = lookUp(key)?.change(at: revision), !change.isTombstone else { return nil }
    return change.hit
  }

  /// Calls `body` with each key of [from, to) that is live at `revision`, ascending, until it
  /// returns false. An empty `to` has no end. Allocates nothing.
  public borrowing func scan(
    from: RawSpan, to: RawSpan, at revision: Int64, body: (RawSpan, Hit) -> Bool
  ) {
    visit(from: from) { entry in
      guard to.isEmpty || entry.key.compare(to) < 0 else { return false }
      guard let change = entry.change(at: revision), !change.isTombstone else { return true }
      return body(entry.key, change.hit)
    }
  }

  /// How many keys of [from, to) are live at `revision`; an empty `to` has no end. Linear in the
  /// keys of the range, but constant for all keys at the newest revision.
  public borrowing func count(from: RawSpan, to: RawSpan, at revision: Int64) -> Int {
    if to.isEmpty && revision >= newestRevision && isFirst(from) { return keyCount }
    var count = 0
    scan(from: from, to: to, at: revision) { _, _ in
      count += 1
      return true
    }
    return count
  }

  private borrowing func isFirst(_ from: RawSpan) -> Bool {
    guard let (leaf, slot) = seek(from) else { return heldCount == 0 }
    return leaf.entry(slot).key.equals(smallest.key)
  }

  private var smallest: Entry {
    var node = root
    while !node.isLeaf { node = node.child(0) }
    return node.entry(0)
  }

  private mutating func noteRevision(_ revision: Revision) {
    newestRevision = max(newestRevision, revision.main)
  }

  private mutating func push(_ change: Change, to entry: Entry) {
    precondition(entry.newest.revision < change.revision, "revisions of a key ascend")
    memoryBytes -= entry.bytes
    entry.push(change)
    memoryBytes += entry.bytes
  }
}

// All memory behind the raw handles belongs to this one value and is changed by its mutating
// methods only: who may share the value for reading, or send it, may do so with what it holds.
extension KeyIndex: @unchecked Sendable {}
