public import Basics

/// SHA-1 of some bytes: 20 bytes. Handed in by the shell, since no crypto lives here.
public typealias Digest = (_ bytes: [UInt8]) -> [UInt8]

/// The ID that etcd derives for a member: the first eight bytes of SHA-1 over the sorted peer
/// URLs, the cluster token and, for a member added later, the time of that in Unix seconds.
/// etcd: `membership.computeMemberId`.
public func memberID(
  peerURLs: [String], token: String, addedAt seconds: Int64?, digest: Digest
) -> NodeID {
  var bytes: [UInt8] = []
  for url in sortedBytewise(peerURLs) { bytes.append(contentsOf: url.utf8) }
  bytes.append(contentsOf: token.utf8)
  if let seconds { bytes.append(contentsOf: String(seconds).utf8) }
  return NodeID(head(digest(bytes)))
}

/// The ID that etcd derives for a cluster from its first members' IDs.
/// etcd: `RaftCluster.genID`.
public func clusterID(members: [NodeID], digest: Digest) -> ClusterID {
  var bytes: [UInt8] = []
  for id in members.sorted() { bytes.append(bigEndian: id.rawValue) }
  return ClusterID(head(digest(bytes)))
}

private func head(_ digest: [UInt8]) -> UInt64 {
  digest.rawSpan.bigEndian()
}

/// Strings in the order of their bytes, as Go sorts them.
func sortedBytewise(_ texts: [String]) -> [String] {
  texts.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
}
