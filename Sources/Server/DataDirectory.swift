internal import Basics
internal import Config
internal import Membership
internal import Platform
internal import Raft
internal import TLS
internal import WAL

/// Why a server does not start; the text is for a person.
public struct StartError: Error, Sendable {
  public var text: String
  init(_ text: String) { self.text = text }
}

/// The places of a data directory, and the lock that keeps a second process out.
struct DataDirectory {
  let root: String
  let member: String
  let wal: String
  let snap: String
  /// Whether the directory holds what etcd wrote, and no store of ours.
  private(set) var isEtcds = false
  var store: String { snap + "/store.lmdb" }

  /// etcd's bbolt file: a directory that etcd wrote has one and no store of ours.
  var bboltFile: String { snap + "/db" }

  init(_ options: Options) throws(StartError) {
    root = options.dataDirectory
    member = root + "/member"
    wal = options.walDirectory.isEmpty ? member + "/wal" : options.walDirectory
    snap = member + "/snap"
    for path in [root, member, snap] {
      do throws(Errno) {
        try FileSystem.makeDirectory(path)
      } catch {
        throw StartError("cannot make the data directory \(path): \(error) [--data-dir]")
      }
    }
    try lock()
    try lockOutEtcd()
    try refuseNewer()
  }

  private func lock() throws(StartError) {
    let path = member + "/martlet.lock"
    let isLocked: Bool
    do throws(Errno) {
      let fd =
        FileSystem.exists(path)
        ? try FileSystem.open(path, creates: false)
        : try FileSystem.open(path, creates: true)
      isLocked = try FileSystem.lock(fd)
    } catch {
      throw StartError("cannot lock the data directory: \(path): \(error) [--data-dir]")
    }
    guard isLocked else {
      throw StartError(
        "the data directory \(root) is in use by another process [--data-dir]")
    }
  }

  /// etcd locks its bbolt file while it runs. Holding that lock, for as long as this process
  /// lives, keeps the two from writing to one log.
  private func lockOutEtcd() throws(StartError) {
    let isLocked: Bool
    do throws(Errno) {
      guard FileSystem.exists(bboltFile) else { return }
      isLocked = try FileSystem.lockShared(try FileSystem.openForReading(bboltFile))
    } catch {
      throw StartError("\(bboltFile): \(error) [--data-dir]")
    }
    guard isLocked else {
      throw StartError(
        "the data directory \(root) is in use by another process: stop etcd first [--data-dir]")
    }
  }

  static let format = "martlet data format 1\n"

  /// Refuses what this version cannot read, and sees whether the directory is etcd's.
  private mutating func refuseNewer() throws(StartError) {
    let path = member + "/martlet.format"
    do throws(Errno) {
      if FileSystem.exists(path) {
        let fd = try FileSystem.open(path, creates: false)
        defer { FileSystem.close(fd) }
        let text = String(
          decoding: try FileSystem.read(fd, at: 0, count: 256), as: UTF8.self)
        guard text == Self.format else {
          throw Errno.unsupported
        }
        return
      }
    } catch {
      guard error == .unsupported else { throw StartError("\(path): \(error)") }
      throw StartError(
        "the data directory \(root) was written by a newer Martlet; this version "
          + "reads '\(Self.format.dropLast())' only. Nothing was changed [--data-dir]")
    }
    if FileSystem.exists(wal) || FileSystem.exists(bboltFile) {
      isEtcds = true
    } else {
      try Self.markAsOurs(member)
    }
  }

  /// Says in the directory `member` that its files have our format.
  static func markAsOurs(_ member: String) throws(StartError) {
    let path = member + "/martlet.format"
    do throws(Errno) {
      let fd = try FileSystem.open(path + ".tmp", creates: true)
      defer { FileSystem.close(fd) }
      try FileSystem.write(fd, at: 0, Array(format.utf8).rawSpan)
      try FileSystem.sync(fd)
      try FileSystem.rename(path + ".tmp", to: path)
      try FileSystem.syncDirectory(member)
    } catch {
      throw StartError("\(path): \(error) [--data-dir]")
    }
  }
}

/// Who this member is: derived from the flags, or read from the log.
struct Identity {
  var member: NodeID
  var cluster: ClusterID
  /// The first members, for a log that begins; none when it is joined.
  var members: [Member]
  /// Members that are known before the log has told of any.
  var acquaintances: [Member] = []

  init(member: NodeID, cluster: ClusterID, members: [Member], acquaintances: [Member]) {
    self.member = member
    self.cluster = cluster
    self.members = members
    self.acquaintances = acquaintances
  }

  init(_ options: Options) throws(StartError) {
    let token = options.initialClusterToken
    members = options.initialCluster.map { entry in
      Member(
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
}
