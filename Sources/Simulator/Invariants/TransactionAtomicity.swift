internal import API
internal import Basics
internal import MVCC

/// A transaction's changes are the whole of its revision, and nothing else is in it.
/// etcd: api guarantees, atomicity; mvcc/kvstore_txn.go.
enum TransactionAtomicity {
  static func problem(
    _ made: [Ledger.Change], _ expected: [(key: [UInt8], value: [UInt8]?)]
  ) -> String? {
    guard made.count == expected.count else {
      return "\(made.count) changes were made, \(expected.count) belong to it"
    }
    for (change, wanted) in zip(made, expected) {
      guard change.key == wanted.key else { return "another key was changed" }
      guard (change.kind == .put) == (wanted.value != nil) else { return "another change was made" }
      guard let value = wanted.value, let view = try? KeyValueView(change.keyValue.rawSpan) else {
        continue
      }
      guard change.keyValue.rawSpan.extracting(view.value).equals(value.rawSpan) else {
        return "another value was put"
      }
    }
    return nil
  }
}
