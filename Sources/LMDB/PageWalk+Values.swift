internal import Basics
internal import MVCC

extension PageWalk {
  private static let chunkBytes = 64 << 10

  /// Checks a row against the checksum behind its value.
  mutating func checkRow(
    _ bucket: Bucket, _ key: RawSpan, _ offset: UInt64, _ byteCount: Int, _ place: PagePlace
  ) throws(PageCheckError) {
    var sum = crc32c(key)
    var done = 0
    while done + 4 < byteCount {
      let count = min(Self.chunkBytes, byteCount - 4 - done)
      try readValue(at: offset + UInt64(done), count: count, place)
      sum = crc32c(scratch, seed: sum)
      done += count
    }
    if byteCount >= 4 {
      try readValue(at: offset + UInt64(byteCount - 4), count: 4, place)
      if scratch.rawSpan.u32(0) == sum { return }
    }
    throw damage(
      place, "bucket \(bucket.name) has a row whose checksum does not match",
      other: PagePlace(page: offset / UInt64(pageBytes), offset: offset))
  }

  /// Takes the pages that `list` names as free from `transaction` on: a count and as many page
  /// numbers, descending.
  mutating func checkFree(
    _ transaction: UInt64, _ list: UInt64, _ byteCount: Int, _ place: PagePlace
  ) throws(PageCheckError) {
    guard transaction >= 1, transaction <= meta.transaction else {
      throw damage(
        place,
        "pages are free from transaction \(transaction) on; the newest is \(meta.transaction)")
    }
    func there(_ at: UInt64) -> PagePlace {
      PagePlace(page: at / UInt64(pageBytes), offset: at)
    }
    guard byteCount >= 8, byteCount % 8 == 0 else {
      throw damage(place, "a list of free pages has \(byteCount) bytes")
    }
    try readValue(at: list, count: 8, place)
    let count = scratch.rawSpan.u64(0)
    guard count <= UInt64(byteCount / 8 - 1) else {
      throw damage(
        there(list), "a list of free pages should hold \(count), in \(byteCount) bytes")
    }
    var last = UInt64.max
    var done: UInt64 = 0
    while done < count {
      let take = min(UInt64(Self.chunkBytes / 8), count - done)
      let start = list + 8 + 8 * done
      try readValue(at: start, count: Int(take) * 8, place)
      for index in 0..<take {
        let page = scratch.rawSpan.u64(Int(index) * 8)
        let at = there(start + 8 * index)
        guard page < last else {
          throw damage(at, "page \(page) comes after page \(last) in a list of free pages")
        }
        last = page
        try claim(page, for: at)
      }
      done += take
    }
    freePages += count
  }

  private mutating func readValue(
    at offset: UInt64, count: Int, _ place: PagePlace
  ) throws(PageCheckError) {
    guard try file.read(at: offset, count: count, into: &scratch) else {
      throw damage(place, "the value lies beyond the end of the file")
    }
  }
}
