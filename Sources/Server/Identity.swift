internal import API
internal import Basics
internal import Config
internal import Membership
internal import Raft
internal import Replica
internal import TLS
internal import WAL

extension Identity {
  /// Takes who wrote the log: it knows better than the flags, which speak of the first start.
  mutating func take(_ metadata: [UInt8], _ directory: DataDirectory) throws(DiskError) {
    guard let found = try? WALMetadata(decoding: metadata.rawSpan) else {
      throw DiskError(
        "the log in \(directory.wal) does not say whose it is", isFull: false, isMissing: false)
    }
    member = NodeID(found.nodeID)
    cluster = ClusterID(found.clusterID)
  }

  /// A member that was among the first ones has an ID made of its URLs and the token: with
  /// another token the flags speak of another cluster. Other flags may have changed since.
  func check(
    _ entries: [Entry], _ options: Options, _ directory: DataDirectory
  ) throws(StartError) {
    for entry in entries where entry.kind == .confChange && entry.term == Term(1) {
      guard let raw = try? ConfChange(kind: entry.kind, data: entry.data),
        case .add(let own)? = try? MemberChange(raw), own.id == member
      else { continue }
      let derived = memberID(
        peerURLs: own.peerURLs, token: options.initialClusterToken, addedAt: nil, digest: sha1)
      guard derived != member, options.namesCluster, options.isNewCluster else { return }
      func hex(_ value: UInt64) -> String { String(value, radix: 16) }
      throw StartError(
        "the data directory \(directory.root) belongs to member \(hex(member.rawValue)) of "
          + "cluster \(hex(cluster.rawValue)); the flags describe member "
          + "\(hex(derived.rawValue)) [--data-dir, --initial-cluster-token]")
    }
  }
}
