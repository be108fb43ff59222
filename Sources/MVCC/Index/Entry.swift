internal import Basics

/// One revision of a key as the index holds it: 32 bytes, no references.
struct Change {
  var main: Int64
  /// Puts since the key was made, this one included; negative for a tombstone.
  var version: Int64
  var createdMain: Int64
  var sub: UInt32
  var createdSub: UInt32

  var isTombstone: Bool { version < 0 }
  var revision: Revision { Revision(main: main, sub: Int64(sub)) }
  var hit: KeyIndex.Hit {
    KeyIndex.Hit(
      modified: revision, created: Revision(main: createdMain, sub: Int64(createdSub)),
      version: version)
  }

  /// Sub revisions are below 2^32: a transaction has no more changes.
  init(modified: Revision, created: Revision, version: Int64) {
    main = modified.main
    sub = UInt32(modified.sub)
    createdMain = created.main
    createdSub = UInt32(created.sub)
    self.version = version
  }
}

/// A key and its revisions: a handle to one raw allocation.
///
///     newest: Change | older: pointer | keyCount | key bytes
///
/// `older` leads to a second allocation with the revisions before the newest, ascending; a key
/// that was written once since the last compaction has none.
@safe struct Entry {
  @safe private struct Header {
    var newest: Change
    var older: UnsafeMutablePointer<OlderHeader>?
    var keyCount: Int
  }
  private struct OlderHeader {
    var count: Int
    var capacity: Int
  }

  private let header: UnsafeMutablePointer<Header>

  private static var keyOffset: Int { MemoryLayout<Header>.stride }

  /// Allocates; `free` must follow.
  static func make(key: RawSpan, newest: Change) -> Entry {
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: keyOffset + key.byteCount, alignment: MemoryLayout<Header>.alignment)
    let header = unsafe raw.bindMemory(to: Header.self, capacity: 1)
    unsafe header.initialize(to: Header(newest: newest, older: nil, keyCount: key.byteCount))
    unsafe key.withUnsafeBytes { bytes in
      guard let start = bytes.baseAddress else { return }
      unsafe (raw + keyOffset).copyMemory(from: start, byteCount: bytes.count)
    }
    return unsafe Entry(header: header)
  }

  func free() {
    unsafe header.pointee.older?.deallocateRaw()
    unsafe header.deallocateRaw()
  }

  var key: RawSpan {
    @_lifetime(borrow self)
    get {
      let start = unsafe UnsafeRawPointer(header) + Self.keyOffset
      return unsafe _overrideLifetime(
        RawSpan(_unsafeStart: start, byteCount: header.pointee.keyCount), borrowing: self)
    }
  }

  var newest: Change { unsafe header.pointee.newest }
  var olderCount: Int { unsafe header.pointee.older?.pointee.count ?? 0 }
  /// Bytes of both allocations.
  var bytes: Int {
    unsafe Self.keyOffset + header.pointee.keyCount
      + (header.pointee.older.map { unsafe Self.olderBytes($0.pointee.capacity) } ?? 0)
  }

  /// The newest change up to main revision `revision`. Logarithmic in the older ones.
  func change(at revision: Int64) -> Change? {
    let newest = unsafe header.pointee.newest
    if newest.main <= revision { return newest }
    let count = olderIndex(after: revision)
    return count == 0 ? nil : older(count - 1)
  }

  /// Makes `change` the newest.
  func push(_ change: Change) {
    let count = olderCount
    reserveOlder(count + 1)
    unsafe olderItems![count] = header.pointee.newest
    unsafe header.pointee.older!.pointee.count = count + 1
    unsafe header.pointee.newest = change
  }

  /// Older change number `index`, ascending.
  func older(_ index: Int) -> Change {
    precondition(index >= 0 && index < olderCount)
    return unsafe olderItems![index]
  }

  /// How many of the older changes have a main revision up to `revision`.
  func olderIndex(after revision: Int64) -> Int {
    var low = 0
    var high = olderCount
    while low < high {
      let middle = (low + high) / 2
      if unsafe olderItems![middle].main <= revision { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Forgets the first `count` older changes, and gives memory back when most of it is unused.
  func dropOlder(_ count: Int) {
    guard count > 0 else { return }
    let left = olderCount - count
    guard left > 0 else {
      unsafe header.pointee.older!.deallocateRaw()
      unsafe header.pointee.older = nil
      return
    }
    let items = unsafe olderItems!
    unsafe items.update(from: items + count, count: left)
    unsafe header.pointee.older!.pointee.count = left
    if unsafe left * 4 <= header.pointee.older!.pointee.capacity { resizeOlder(left) }
  }

  private var olderItems: UnsafeMutablePointer<Change>? {
    guard let older = unsafe header.pointee.older else { return nil }
    return unsafe (UnsafeMutableRawPointer(older) + MemoryLayout<OlderHeader>.stride)
      .assumingMemoryBound(to: Change.self)
  }

  private static func olderBytes(_ capacity: Int) -> Int {
    MemoryLayout<OlderHeader>.stride + capacity * MemoryLayout<Change>.stride
  }

  private func reserveOlder(_ count: Int) {
    let capacity = unsafe header.pointee.older?.pointee.capacity ?? 0
    if count > capacity { resizeOlder(max(count, capacity + capacity / 2)) }
  }

  private func resizeOlder(_ capacity: Int) {
    let count = olderCount
    let raw = UnsafeMutableRawPointer.allocate(
      byteCount: Self.olderBytes(capacity), alignment: MemoryLayout<Change>.alignment)
    let older = unsafe raw.bindMemory(to: OlderHeader.self, capacity: 1)
    unsafe older.initialize(to: OlderHeader(count: count, capacity: capacity))
    let items = unsafe (raw + MemoryLayout<OlderHeader>.stride)
      .bindMemory(to: Change.self, capacity: capacity)
    if let old = unsafe olderItems { unsafe items.initialize(from: old, count: count) }
    unsafe header.pointee.older?.deallocateRaw()
    unsafe header.pointee.older = older
  }
}

extension UnsafeMutablePointer {
  /// Gives back memory that was allocated raw; the contents are plain data.
  fileprivate func deallocateRaw() { unsafe UnsafeMutableRawPointer(self).deallocate() }
}
