import Basics
import Config
import Foundation
import LMDB
import MVCC
import Membership
import Platform
import Raft
import Replica
import Services
import Testing

@testable import Server

/// What the threads around the store share, on a data directory of its own.
struct Rig {
  let folder = FileManager.default.temporaryDirectory
    .appendingPathComponent("martlet-server-\(UUID().uuidString)").path
  let shared: Shared

  init() throws {
    let options = try Options(
      Settings(
        arguments: ["--data-dir", folder, "--unsafe-no-fsync", "--log-level", "fatal"],
        environment: []))
    let log = try Logger(options.log)
    let recovered = try Recovery(options, try DataDirectory(options), nil, log)
    let status = MemberStatus(
      member: recovered.identity.member, cluster: recovered.identity.cluster)
    shared = Shared(
      replica: recovered.takeReplica(), backend: recovered.backend, board: Board(status: status),
      log: log, loops: [try LoopHandle()], peers: try PeerHandle(), opening: recovered.opening,
      snapshotFiles: recovered.snapshotFiles)
  }

  func remove() { try? FileManager.default.removeItem(atPath: folder) }

  var member: NodeID { shared.board.withLock { $0.status.member } }

  /// A snapshot of an empty cluster's state.
  func snapshot(_ index: UInt64) -> Snapshot {
    Snapshot(
      metadata: SnapshotMetadata(
        confState: ConfState(voters: [member]), index: LogIndex(index), term: Term(2)),
      data: Cluster().tree.snapshot)
  }

  func startApply() -> Platform.Thread {
    let settings = ApplyThread.Settings(
      batchNanoseconds: 100_000_000, batchOperationsMax: 10_000, compactionKeysPerStep: 1000,
      slowNanoseconds: .max, snapshotCount: 10_000,
      publication: Member(
        id: member, name: "m", peerURLs: [], clientURLs: [], isLearner: false),
      serverVersion: ClusterVersion(major: 3, minor: 5, patch: 0), startMilliseconds: 1,
      compaction: nil)
    let shared = shared
    return Platform.Thread.start("apply") {
      ApplyThread(shared: shared, settings: settings, snapshotIndex: .zero).run()
    }
  }
}

@Suite struct StoreChangeTests {
  /// The commit's end may come in the same wake as the snapshot that waits for it.
  @Test func `a snapshot from the leader waits for no commit that has ended`() throws {
    let rig = try Rig()
    defer { rig.remove() }
    _ = rig.shared.replica.store.freeze()
    rig.shared.apply.post(.restore(rig.snapshot(100)))
    rig.shared.apply.post(.stored(nil))
    let thread = rig.startApply()
    var orders: [BackgroundInput] = []
    rig.shared.background.wait(until: Clock.monotonic() + 5_000_000_000, into: &orders)
    guard case .restore(let ordered)? = orders.first else {
      Issue.record("the change of stores was not ordered")
      return
    }
    #expect(ordered == rig.snapshot(100))
    rig.shared.apply.post(.restored(unanswered: []))
    rig.shared.apply.post(.stop)
    thread.join()
  }

  /// After a start entries up to the store's index are applied again, to membership alone.
  @Test func `no snapshot is made while the store is ahead of what is applied`() throws {
    let rig = try Rig()
    defer { rig.remove() }
    rig.shared.replica.store.setConsistentIndex(LogIndex(50), term: Term(2))
    rig.shared.apply.post(.snapshotWanted(NodeID(7)))
    rig.shared.apply.post(.stop)
    rig.startApply().join()
    var orders: [BackgroundInput] = []
    rig.shared.background.drain(into: &orders)
    #expect(!orders.contains { if case .export = $0 { true } else { false } })
  }

  /// The next snapshot may be whole, and in the log, before the one in hand has been taken.
  @Test func `taking a received store leaves later ones alone`() throws {
    let rig = try Rig()
    defer { rig.remove() }
    let files = rig.shared.snapshotFiles
    for index in [3, 5, 9] as [UInt64] {
      _ = try LMDBBackend.open(path: files.store(LogIndex(index)), syncs: false)
    }
    let incoming = files.incoming + ".lmdb"
    _ = try LMDBBackend.open(path: incoming, syncs: false)
    rig.shared.background.post(.restore(rig.snapshot(5)))
    rig.shared.background.post(.stop)
    BackgroundThread(shared: rig.shared, disk: OSDisk(syncs: false), defragmentFactor: 0).run()
    #expect(rig.shared.replica.appliedIndex == LogIndex(5))
    func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }
    #expect(exists(files.store(LogIndex(9))))
    #expect(exists(incoming))
    #expect(!exists(files.store(LogIndex(3))) && !exists(files.store(LogIndex(5))))
  }
}
