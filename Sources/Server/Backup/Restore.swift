internal import API
internal import Basics
internal import LMDB
internal import MVCC
internal import Membership
internal import Platform
internal import Raft
internal import Replica
internal import TLS
internal import WAL

/// A new data directory from a snapshot file: the store with the members of a new cluster, and a
/// log that begins with them. etcd: `v3Manager.Restore`.
///
/// Everything is checked before anything is written; what is made gets its name last.
struct Restore {
  var snapshot = ""
  var name = "default"
  var dataDirectory = ""
  var walDirectory = ""
  var initialCluster = "default=http://localhost:2380"
  var token = "etcd-cluster"
  var peerURLs = ["http://localhost:2380"]
  var skipsHashCheck = false
  var revisionBump: UInt64 = 0

  /// What the files are made from.
  private struct Plan {
    var members: [Membership.Member]
    var own: NodeID
    var cluster: ClusterID
    var tree = Cluster()

    var configuration: ConfState { ConfState(voters: members.map(\.id).sorted()) }
    var index: LogIndex { LogIndex(UInt64(members.count)) }
  }

  func run() throws(BackupError) {
    let plan = try plan()
    let member = dataDirectory + "/member"
    try refuseOccupied()
    let file = try SnapshotFile.open(snapshot)
    if !skipsHashCheck { try file.checkHash { _ in } }
    let isOwnDirectory = !FileSystem.exists(dataDirectory)
    let temporary = dataDirectory + "/member.restoring"
    let progress = Progress("restoring \(snapshot)")
    do {
      try FileSystem.makeDirectories(temporary + "/snap")
      try importStore(file, temporary + "/snap/store.lmdb", plan, progress)
      try writeLog(plan, temporary)
      try DataDirectory.markAsOurs(temporary)
      try FileSystem.syncDirectory(temporary + "/snap")
      try FileSystem.rename(temporary, to: member)
      try FileSystem.syncDirectory(dataDirectory)
    } catch {
      try? FileSystem.removeAll(isOwnDirectory ? dataDirectory : temporary)
      if !walDirectory.isEmpty { try? FileSystem.removeAll(walDirectory) }
      throw Self.wrap(error)
    }
    progress.end()
  }

  private static func wrap(_ error: any Error) -> BackupError {
    switch error {
    case let error as BackupError: error
    case let error as WALError: BackupError(error.text)
    case let error as DiskError: BackupError(error.text)
    case let error as StartError: BackupError(error.text)
    default: BackupError("\(error)")
    }
  }

  /// etcd: `VerifyBootstrap`.
  private func plan() throws(BackupError) -> Plan {
    let urls: [String]
    let first: InitialCluster
    do throws(InitialCluster.Invalid) {
      urls = try checkedURLs(peerURLs)
      first = try InitialCluster(parsing: initialCluster)
    } catch {
      throw BackupError(error.text)
    }
    guard let mine = first.entries.first(where: { $0.name == name }) else {
      throw BackupError(
        "couldn't find local name \"\(name)\" in the initial cluster configuration")
    }
    let all = first.entries.flatMap(\.peerURLs)
    guard Set(all).count == all.count else {
      let text = first.entries.map { Self.named($0.peerURLs, $0.name) }.joined(separator: ",")
      throw BackupError("initial cluster \(text) has duplicate url")
    }
    guard mine.peerURLs == urls else {
      throw BackupError(
        "--initial-cluster has \(Self.named(mine.peerURLs, name)) but missing from "
          + "--initial-advertise-peer-urls=\(urls.joined(separator: ","))")
    }
    let members: [Membership.Member]
    do throws(InitialCluster.Invalid) {
      members = try first.members(token: token, digest: sha1)
    } catch {
      throw BackupError(error.text)
    }
    var plan = Plan(
      members: members, own: members.first { $0.name == name }?.id ?? .none,
      cluster: clusterID(members: members.map(\.id), digest: sha1))
    for member in members { _ = plan.tree.apply(.add(member)) }
    return plan
  }

  private static func named(_ urls: [String], _ name: String) -> String {
    urls.map { "\(name)=\($0)" }.joined(separator: ",")
  }

  private func refuseOccupied() throws(BackupError) {
    if FileSystem.exists(dataDirectory) {
      let names = try? FileSystem.list(dataDirectory)
      guard names == [] else {
        throw BackupError("data-dir \"\(dataDirectory)\" not empty or could not be read")
      }
    }
    guard walDirectory.isEmpty || !FileSystem.exists(walDirectory) else {
      throw BackupError("wal-dir \"\(walDirectory)\" exists")
    }
  }

  /// The rows, with the new members in place of the old and the new log's start.
  private func importStore(
    _ file: borrowing SnapshotFile, _ path: String, _ plan: Plan, _ progress: Progress
  ) throws(BackupError) {
    var adding = StoreImport { done, size in
      progress.show(size > 0 ? min(100, done * 100 / size) : 100)
    }
    adding.omitted = [.members, .membersRemoved]
    try adding.make(path, from: file) { batch, found throws(BackupError) in
      for row in plan.tree.rows where row.bucket == .members {
        if let value = row.value { batch.put(.members, row.key, value) }
      }
      batch.put(.meta, [UInt8]("consistent_index"), [UInt8](bigEndian: plan.index.rawValue))
      batch.put(.meta, [UInt8]("term"), [UInt8](bigEndian: 1))
      batch.remove(.meta, [UInt8]("confState").rawSpan)
      if revisionBump > 0 { try bump(&batch, found) }
    }
  }

  /// Lets the revision jump, and everything before be compacted, so that no client sees it go
  /// back. etcd: `v3Manager.modifyLatestRevision`, with its empty row.
  private func bump(
    _ batch: inout WriteBatch, _ found: StoreImport.Found
  ) throws(BackupError) {
    let newest = found.newest.count >= 8 ? found.newest.rawSpan.bigEndian() : 1
    let (bumped, isTooLarge) = newest.addingReportingOverflow(revisionBump)
    guard !isTooLarge, bumped <= UInt64(RevisionKey.mainMax) else {
      throw BackupError(
        "--bump-revision \(revisionBump) leads beyond revision \(RevisionKey.mainMax)")
    }
    let revision = RevisionKey.bytes(Revision(main: Int64(bumped), sub: 0))
    batch.put(.key, revision, [])
    batch.put(.meta, [UInt8]("scheduledCompactRev"), revision)
  }

  /// The log: the members in term 1, all committed, and a snapshot behind them.
  private func writeLog(_ plan: Plan, _ member: String) throws {
    let disk = OSDisk(syncs: true)
    var metadata: [UInt8] = []
    WALMetadata(nodeID: plan.own.rawValue, clusterID: plan.cluster.rawValue)
      .encode(into: &metadata)
    let target = walDirectory.isEmpty ? member + "/wal" : walDirectory
    if !walDirectory.isEmpty { try FileSystem.makeDirectories(Self.parent(walDirectory)) }
    var log = try Log.create(disk, directory: target, metadata: metadata)
    try log.append(
      [Entry](founding: plan.members),
      HardState(term: Term(1), vote: plan.members[0].id, commit: plan.index))
    try log.sync()
    let metadataOfSnapshot = SnapshotMetadata(
      confState: plan.configuration, index: plan.index, term: Term(1))
    try SnapshotStore(disk, directory: member + "/snap").save(
      Snapshot(metadata: metadataOfSnapshot, data: plan.tree.tree.snapshot))
    try log.save(SnapshotMarker(index: plan.index, term: Term(1)), plan.configuration)
  }

  private static func parent(_ path: String) -> String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? ""
  }
}

extension WriteBatch {
  mutating func put(_ bucket: Bucket, _ key: [UInt8], _ value: [UInt8]) {
    put(bucket, key.rawSpan, value.rawSpan)
  }
}
