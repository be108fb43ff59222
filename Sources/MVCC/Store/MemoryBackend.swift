internal import Basics

/// A backend in memory, for the simulator and tests: sorted tables, copied on write. A crash keeps
/// what was committed, as LMDB's file would.
///
/// A class, because the store and its readers share it.
public final class MemoryBackend: Backend, @unchecked Sendable {
  // Used by one thread: the simulator's, or a test's.
  var tables: [[Row]] = Bucket.allCases.map { _ in [] }
  private var bytes = 0
  /// Fails the commits to come with this.
  public var failure: BackendError?

  struct Row {
    var key: [UInt8]
    var value: [UInt8]
    var bytes: Int { key.count + value.count }
  }

  public init() {}

  public func makeReader() throws(BackendError) -> Reader { Reader(self) }

  public func commit(_ batch: WriteBatch) throws(BackendError) {
    if let failure { throw failure }
    for change in batch.changes {
      let key = batch.arena.rawSpan.extracting(change.key).copied()
      let table = Int(change.bucket.rawValue)
      let at = Self.position(key.rawSpan, in: tables[table])
      let isThere = at < tables[table].count && tables[table][at].key == key
      if let slice = change.value {
        let row = Row(key: key, value: batch.arena.rawSpan.extracting(slice).copied())
        bytes += row.bytes
        if isThere {
          bytes -= tables[table][at].bytes
          tables[table][at] = row
        } else {
          tables[table].insert(row, at: at)
        }
      } else if isThere {
        bytes -= tables[table].remove(at: at).bytes
      }
    }
  }

  public func sizes() -> (total: Int, inUse: Int) {
    (bytes, bytes)
  }

  public func defragment() throws(BackendError) {}

  static func position(_ key: RawSpan, in table: [Row]) -> Int {
    var low = 0
    var high = table.count
    while low < high {
      let middle = (low + high) / 2
      let row = table[middle]
      if row.key.rawSpan.compare(key) < 0 { low = middle + 1 } else { high = middle }
    }
    return low
  }

  public final class Reader: BackendReader {
    private let backend: MemoryBackend
    private var tables: [[Row]] = Bucket.allCases.map { _ in [] }

    init(_ backend: MemoryBackend) { self.backend = backend }

    public func renew() throws(BackendError) { tables = backend.tables }
    public func reset() { tables = Bucket.allCases.map { _ in [] } }

    public func get(
      _ bucket: Bucket, _ key: RawSpan, into bytes: inout [UInt8]
    ) throws(BackendError) -> Bool {
      let table = tables[Int(bucket.rawValue)]
      let at = MemoryBackend.position(key, in: table)
      guard at < table.count else { return false }
      let row = table[at]
      guard row.key.rawSpan.equals(key) else { return false }
      bytes += row.value
      return true
    }

    public func scan(
      _ bucket: Bucket, from: RawSpan, to: RawSpan, _ body: (RawSpan, RawSpan) -> Bool
    ) throws(BackendError) {
      let table = tables[Int(bucket.rawValue)]
      for row in table[MemoryBackend.position(from, in: table)...] {
        guard to.byteCount == 0 || row.key.rawSpan.compare(to) < 0,
          body(row.key.rawSpan, row.value.rawSpan)
        else { return }
      }
    }
  }
}
