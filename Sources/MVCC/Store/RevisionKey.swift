public import Basics

/// A revision as the key of a row: main and sub, big-endian, with `_` between; a tombstone's ends
/// in `t`. etcd: mvcc/revision.go.
public enum RevisionKey {
  public static let byteCount = 17
  /// Main revisions of rows and restores: there is always a next one.
  public static let mainMax = Int64.max / 2

  /// Adds the key to `bytes`.
  public static func append(_ revision: Revision, isTombstone: Bool, to bytes: inout [UInt8]) {
    bytes.append(bigEndian: UInt64(bitPattern: revision.main))
    bytes.append(UInt8(ascii: "_"))
    bytes.append(bigEndian: UInt64(bitPattern: revision.sub))
    if isTombstone { bytes.append(UInt8(ascii: "t")) }
  }

  /// The key. One allocation.
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
    let revision = Revision(
      main: Int64(bitPattern: key.bigEndian()), sub: Int64(bitPattern: key.bigEndian(at: 9)))
    // A transaction has fewer changes than that.
    guard 0...mainMax ~= revision.main, 0...Int64(UInt32.max) ~= revision.sub else { return nil }
    return (revision, isTombstone)
  }
}
