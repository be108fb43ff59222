internal import Basics
public import MVCC

/// Why a store was not written as a bbolt file.
public enum StoreExportError: Error, Equatable, Sendable {
  case bolt(BoltError)
  case backend(BackendError)
  /// The sink took no more.
  case stopped

  /// For a person.
  public var text: String {
    switch self {
    case .bolt(let error): error.text
    case .backend(let error): error.text
    case .stopped: "the file could not be written to its end"
    }
  }
}

/// A store, as one reader sees it, on its way to a bbolt file with all of etcd's buckets. The
/// reader is renewed by its owner before `plan` and not moved until the end of `write`.
public struct StoreExport {
  /// etcd's name order, which is that of the bytes.
  static let buckets = Bucket.allCases.map { (Array($0.name), $0) }
    .sorted { $0.0.rawSpan.compare($1.0.rawSpan) < 0 }
  /// Bytes gathered before the sink gets them.
  private static let pieceBytes = 256 << 10

  /// Rows of bucket `meta` that stand in place of the store's, or beside them; in ascending order
  /// of the keys.
  private let metaRows: [(key: [UInt8], value: [UInt8])]
  public let layout: BoltLayout

  /// Counts: reads all rows once. The size of the file is known then. `metaRows` are in ascending
  /// order of their keys.
  public init(
    planning reader: some BackendReader, pageSize: Int,
    metaRows: [(key: [UInt8], value: [UInt8])]
  ) throws(StoreExportError) {
    self.metaRows = metaRows
    var writer = BoltWriter(countingPagesOf: pageSize)
    layout = try Self.run(&writer, reader, metaRows) { _ in true }
  }

  /// Gives the file's bytes to `sink`, in order and in pieces, until it returns false.
  public func write(
    from reader: some BackendReader, to sink: (RawSpan) -> Bool
  ) throws(StoreExportError) {
    var writer = BoltWriter(writing: layout)
    _ = try Self.run(&writer, reader, metaRows, sink)
  }

  private static func run(
    _ writer: inout BoltWriter, _ reader: some BackendReader,
    _ metaRows: [(key: [UInt8], value: [UInt8])], _ sink: (RawSpan) -> Bool
  ) throws(StoreExportError) -> BoltLayout {
    var pass = Pass()
    for (name, bucket) in buckets {
      writer.begin(name)
      pass.extra = bucket == .meta ? metaRows[...] : []
      do throws(BackendError) {
        try reader.scan(bucket, from: RawSpan(), to: RawSpan()) { key, value in
          pass.addRow(key, value, to: &writer) && pass.drain(&writer, least: pieceBytes, sink)
        }
      } catch {
        throw .backend(error)
      }
      pass.addExtra(below: nil, to: &writer)
      if let failure = pass.failure { throw failure }
      writer.end()
    }
    let layout: BoltLayout
    do throws(BoltError) {
      layout = try writer.finish()
    } catch {
      throw .bolt(error)
    }
    guard pass.drain(&writer, least: 1, sink) else { throw .stopped }
    return layout
  }

  /// What one pass over the rows carries along.
  private struct Pass {
    var failure: StoreExportError?
    var extra: ArraySlice<(key: [UInt8], value: [UInt8])> = []
    private var piece: [UInt8] = []

    /// Adds a row of the store, and before it the extra rows that belong there; false when that
    /// failed.
    mutating func addRow(
      _ key: RawSpan, _ value: RawSpan, to writer: inout BoltWriter
    ) -> Bool {
      if !extra.isEmpty {
        addExtra(below: key, to: &writer)
        if let next = extra.first, next.key.rawSpan.equals(key) { return failure == nil }
      }
      return failure == nil && add(key, value, to: &writer)
    }

    /// Adds the extra rows below `bound`, or all that are left.
    mutating func addExtra(below bound: RawSpan?, to writer: inout BoltWriter) {
      while failure == nil, let next = extra.first {
        if let bound, next.key.rawSpan.compare(bound) >= 0 { return }
        extra.removeFirst()
        _ = add(next.key.rawSpan, next.value.rawSpan, to: &writer)
      }
    }

    private mutating func add(
      _ key: RawSpan, _ value: RawSpan, to writer: inout BoltWriter
    ) -> Bool {
      do throws(BoltError) {
        try writer.add(key, value)
        return true
      } catch {
        failure = .bolt(error)
        return false
      }
    }

    /// Gives the sink what is written, when that is `least` bytes; false when it took no more.
    mutating func drain(
      _ writer: inout BoltWriter, least: Int, _ sink: (RawSpan) -> Bool
    ) -> Bool {
      guard writer.pendingBytes >= least else { return true }
      writer.take(into: &piece)
      guard sink(piece.rawSpan) else {
        failure = .stopped
        return false
      }
      return true
    }
  }
}
