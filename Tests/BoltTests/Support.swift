import Basics
import Bolt
import MVCC

struct Row: Equatable {
  var key: [UInt8]
  var value: [UInt8]
}

struct Contents: Equatable {
  var name: [UInt8]
  var rows: [Row]

  init(_ name: String, _ rows: [Row]) {
    self.name = Array(name.utf8)
    self.rows = rows
  }
}

/// Writes `buckets` in two passes; returns the file.
func write(_ buckets: [Contents], pageSize: Int) throws(BoltError) -> [UInt8] {
  var counter = BoltWriter(countingPagesOf: pageSize)
  let layout = try pass(&counter, buckets) { _ in }
  var file: [UInt8] = []
  var writer = BoltWriter(writing: layout)
  _ = try pass(&writer, buckets) { file += $0 }
  return file
}

func pass(
  _ writer: inout BoltWriter, _ buckets: [Contents], _ sink: ([UInt8]) -> Void
) throws(BoltError) -> BoltLayout {
  var piece: [UInt8] = []
  for bucket in buckets {
    writer.begin(bucket.name)
    for row in bucket.rows {
      let (key, value) = (row.key, row.value)
      try writer.add(key.rawSpan, value.rawSpan)
      writer.take(into: &piece)
      sink(piece)
    }
    writer.end()
  }
  let layout = try writer.finish()
  writer.take(into: &piece)
  sink(piece)
  return layout
}

func source(_ bytes: [UInt8]) -> BoltSource {
  BoltSource(size: bytes.count) { offset, count, target throws(BoltError) in
    target += bytes[offset..<offset + count]
  }
}

/// Everything a file holds.
func read(_ bytes: [UInt8]) throws(BoltError) -> [Contents] {
  var file = try BoltFile.open(source(bytes))
  var found: [Contents] = []
  try file.scanAll { name in
    found.append(Contents(String(decoding: name.copied(), as: UTF8.self), []))
  } row: { key, value in
    found[found.count - 1].rows.append(Row(key: key.copied(), value: value.copied()))
    return true
  }
  return found
}

func number(_ value: Int, bytes: Int) -> [UInt8] {
  (0..<bytes).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
}

/// Rows with ascending keys, of sizes that are mostly small and now and then large.
func randomRows(_ count: Int, largest: Int, _ random: inout Random) -> [Row] {
  (0..<count).map { at in
    let key = number(at, bytes: 8) + [UInt8](repeating: 7, count: random.next(below: 12))
    let size =
      random.chance(1, in: 20) ? random.next(below: largest + 1) : random.next(below: 200)
    return Row(
      key: key, value: number(at, bytes: 8) + [UInt8](repeating: UInt8(at & 255), count: size))
  }
}
