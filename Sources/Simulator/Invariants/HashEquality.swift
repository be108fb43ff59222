/// Members that hash the same revision get the same hash. etcd: mvcc/hash.go,
/// etcdserver/corrupt.go.
struct HashEquality {
  private var known: [(revision: Int64, compact: Int64, hash: UInt32)] = []
  private(set) var count = 0
  /// Who has answered for the newest revision once everything was quiet.
  private(set) var final: [Int] = []

  mutating func answered(
    _ revision: Int64, compact: Int64, hash: UInt32, of host: Int, isFinal: Bool
  ) -> String? {
    count += 1
    if isFinal, !final.contains(host) { final.append(host) }
    let before = known.first { $0.revision == revision && $0.compact == compact }
    guard let before else {
      known.append((revision, compact, hash))
      return nil
    }
    return before.hash == hash ? nil : "two hashes of revision \(revision)"
  }
}
