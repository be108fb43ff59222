internal import Basics
internal import CLMDB
internal import Glibc
public import MVCC

extension LMDBBackend {
  /// A snapshot of the file; renewing costs some 12 ns while the file stays the same.
  @safe public final class Reader: BackendReader {
    private let backend: LMDBBackend
    private var environment: Environment?
    private var txn: OpaquePointer?
    private var isActive = false

    init(_ backend: LMDBBackend) { self.backend = backend }

    deinit { unsafe mdb_txn_abort(txn) }

    public func renew() throws(BackendError) {
      reset()
      let newest = backend.environment
      if let environment, environment === newest, unsafe txn != nil {
        try check(unsafe mdb_txn_renew(txn), backend.path)
      } else {
        unsafe mdb_txn_abort(txn)
        unsafe txn = nil
        environment = newest
        try check(
          unsafe mdb_txn_begin(newest.env, nil, UInt32(MDB_RDONLY), &txn), backend.path)
      }
      isActive = true
    }

    /// Called once more, it also lets go of a file that was replaced, whose space comes back when
    /// nobody has it any more.
    public func reset() {
      guard isActive else { return letGo() }
      isActive = false
      unsafe mdb_txn_reset(txn)
    }

    public func get(
      _ bucket: Bucket, _ key: RawSpan, into bytes: inout [UInt8]
    ) throws(BackendError) -> Bool {
      guard isActive, let environment else { throw .failed("\(backend.path): no snapshot") }
      var found = unsafe MDB_val()
      let code = unsafe key.withUnsafeBytes { keyBytes in
        var name = unsafe value(keyBytes)
        return unsafe mdb_get(txn, environment.handle(bucket), &name, &found)
      }
      if code == MDB_NOTFOUND { return false }
      try check(code, backend.path)
      let row = unsafe RawSpan(_unsafeStart: found.mv_data, byteCount: found.mv_size)
      let count = row.byteCount - 4
      try verify(bucket, key, row)
      bytes.append(contentsOf: row.extracting(0..<count))
      return true
    }

    public func scan(
      _ bucket: Bucket, from: RawSpan, to: RawSpan, _ body: (RawSpan, RawSpan) -> Bool
    ) throws(BackendError) {
      guard isActive, let environment else { throw .failed("\(backend.path): no snapshot") }
      var cursor: OpaquePointer?
      try check(
        unsafe mdb_cursor_open(txn, environment.handle(bucket), &cursor), backend.path)
      defer { unsafe mdb_cursor_close(cursor) }
      var name = unsafe MDB_val()
      var found = unsafe MDB_val()
      var code = unsafe from.withUnsafeBytes { bytes in
        unsafe name = value(bytes)
        let operation = bytes.count == 0 ? MDB_FIRST : MDB_SET_RANGE
        return unsafe mdb_cursor_get(cursor, &name, &found, operation)
      }
      while code == 0 {
        let key = unsafe RawSpan(_unsafeStart: name.mv_data, byteCount: name.mv_size)
        if to.byteCount > 0, key.compare(to) >= 0 { return }
        let row = unsafe RawSpan(_unsafeStart: found.mv_data, byteCount: found.mv_size)
        try verify(bucket, key, row)
        guard body(key, row.extracting(0..<row.byteCount - 4)) else { return }
        code = unsafe mdb_cursor_get(cursor, &name, &found, MDB_NEXT)
      }
      if code != MDB_NOTFOUND { try check(code, backend.path) }
    }

    /// The last key of a bucket; empty when there is none.
    func last(_ bucket: Bucket) throws(BackendError) -> [UInt8] {
      guard isActive, let environment else { throw .failed("\(backend.path): no snapshot") }
      var cursor: OpaquePointer?
      try check(
        unsafe mdb_cursor_open(txn, environment.handle(bucket), &cursor), backend.path)
      defer { unsafe mdb_cursor_close(cursor) }
      var name = unsafe MDB_val()
      var found = unsafe MDB_val()
      let code = unsafe mdb_cursor_get(cursor, &name, &found, MDB_LAST)
      if code == MDB_NOTFOUND { return [] }
      try check(code, backend.path)
      return unsafe [UInt8](UnsafeRawBufferPointer(start: name.mv_data, count: name.mv_size))
    }

    private func letGo() {
      guard let environment, environment !== backend.environment else { return }
      unsafe mdb_txn_abort(txn)
      unsafe txn = nil
      self.environment = nil
    }

    /// Throws when the checksum behind the value does not fit.
    private func verify(_ bucket: Bucket, _ key: RawSpan, _ row: RawSpan) throws(BackendError) {
      let count = row.byteCount - 4
      if count >= 0 {
        let sum = unsafe row.unsafeLoadUnaligned(fromByteOffset: count, as: UInt32.self)
        if UInt32(littleEndian: sum) == crc32c(row.extracting(0..<count), seed: crc32c(key)) {
          return
        }
      }
      throw .corrupt(
        "\(backend.path): bucket \(bucket.name), row \(describe(key)) at file offset "
          + "\(offset(row)): its checksum does not match")
    }

    private func describe(_ key: RawSpan) -> String {
      if let revision = RevisionKey.read(key)?.revision {
        return "\(revision.main).\(revision.sub)"
      }
      return String(decoding: key.copied(), as: UTF8.self)
    }

    /// Where in the file `row` lies. LMDB does not tell where its map begins; the system does.
    private func offset(_ row: RawSpan) -> UInt {
      let address = unsafe row.withUnsafeBytes { UInt(bitPattern: $0.baseAddress) }
      for line in mappings().split(separator: "\n") {
        let fields = line.split(separator: " ", omittingEmptySubsequences: true)
        guard fields.count > 2, let dash = fields[0].firstIndex(of: "-"),
          let start = UInt(fields[0][..<dash], radix: 16),
          let end = UInt(fields[0][fields[0].index(after: dash)...], radix: 16),
          let base = UInt(fields[2], radix: 16), address >= start, address < end
        else { continue }
        return address - start + base
      }
      return 0
    }

    private func mappings() -> String {
      guard let file = unsafe fopen("/proc/self/maps", "r") else { return "" }
      defer { unsafe fclose(file) }
      var text: [UInt8] = []
      var chunk = [UInt8](repeating: 0, count: 64 << 10)
      while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        guard count > 0 else { return String(decoding: text, as: UTF8.self) }
        text += chunk[..<count]
      }
    }
  }
}
