public import Basics

/// A revision as the key of a row: main and sub, big-endian, with `_` between; a tombstone's ends
/// in `t`. etcd: mvcc/revision.go.
public enum RevisionKey {
  public static let byteCount = 17
  /// Main revisions of rows and restores: there is always a next one.
  public static let mainMax = Int64.max / 2

  public static func append(_ revision: Revision, isTombstone: Bool, to bytes: inout [UInt8]) {
    append(UInt64(bitPattern: revision.main), to: &bytes)
    bytes.append(UInt8(ascii: "_"))
    append(UInt64(bitPattern: revision.sub), to: &bytes)
    if isTombstone { bytes.append(UInt8(ascii: "t")) }
  }

  public static func bytes(_ revision: Revision, isTombstone: Bool = false) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount + 1)
    append(revision, isTombstone: isTombstone, to: &bytes)
    return bytes
  }

  /// Nil for bytes that are no such key.
  public static func read(_ key: RawSpan) -> (revision: Revision, isTombstone: Bool)? {
    let isTombstone = key.byteCount == byteCount + 1 && key[byteCount] == UInt8(ascii: "t")
    guard key.byteCount == byteCount || isTombstone, key[8] == UInt8(ascii: "_") else {
      return nil
    }
    let revision = Revision(main: integer(key, 0), sub: integer(key, 9))
    // A transaction has fewer changes than that.
    guard 0...mainMax ~= revision.main, 0...Int64(UInt32.max) ~= revision.sub else { return nil }
    return (revision, isTombstone)
  }

  static func append(_ value: UInt64, to bytes: inout [UInt8]) {
    var shift: UInt64 = 64
    while shift > 0 {
      shift -= 8
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  static func integer(_ bytes: RawSpan, _ offset: Int) -> Int64 {
    var value: UInt64 = 0
    for i in 0..<8 { value = value << 8 | UInt64(bytes[offset + i]) }
    return Int64(bitPattern: value)
  }
}
