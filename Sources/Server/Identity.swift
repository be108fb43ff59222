internal import API
internal import Basics
internal import Config
internal import Membership
internal import Raft
internal import Replica
internal import TLS
internal import WAL

/// Who this member is: derived from the flags, or read from the log.
struct Identity {
  var member: NodeID
  var cluster: ClusterID
  /// The first members, for a log that begins; none when it is joined.
  var members: [Membership.Member]
  /// Members that are known before the log has told of any.
  var acquaintances: [Membership.Member] = []

  init(
    member: NodeID, cluster: ClusterID, members: [Membership.Member],
    acquaintances: [Membership.Member]
  ) {
    self.member = member
    self.cluster = cluster
    self.members = members
    self.acquaintances = acquaintances
  }

  init(_ options: Options) throws(StartError) {
    let token = options.initialClusterToken
    members = options.initialCluster.map { entry in
      Membership.Member(
        id: memberID(
          peerURLs: entry.peerURLs, token: token, addedAt: nil, digest: sha1),
        name: entry.name, peerURLs: entry.peerURLs, clientURLs: [], isLearner: false)
    }.sorted { $0.id < $1.id }
    cluster = clusterID(members: members.map(\.id), digest: sha1)
    guard let own = members.first(where: { $0.name == options.name }) else {
      throw StartError("\(options.name) is not in --initial-cluster [--name]")
    }
    member = own.id
  }

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
      throw StartError(
        "the data directory \(directory.root) belongs to member \(Hex.text(member.rawValue)) of "
          + "cluster \(Hex.text(cluster.rawValue)); the flags describe member "
          + "\(Hex.text(derived.rawValue)) [--data-dir, --initial-cluster-token]")
    }
  }
}
