internal import Basics
internal import Bolt
internal import HTTP1
internal import LMDB
internal import MVCC
internal import Peers
internal import Platform
internal import Raft

/// Where the stores of received snapshots lie until they are taken: one file each, named for the
/// position in the log that it stands for.
struct SnapshotFiles {
  var directory: String

  private static let suffix = ".snap.lmdb"

  func store(_ index: LogIndex) -> String {
    let digits = String(index.rawValue, radix: 16)
    let name = String(repeating: "0", count: 16 - digits.count) + digits
    return directory + "/" + name + Self.suffix
  }

  /// Beside which the next one is made.
  var incoming: String { directory + "/incoming" }

  /// Removes the stores up to `last`: one beyond it may be in the log already, or on its way here.
  /// Without it, at a start, all goes.
  func clean(upTo last: LogIndex? = nil) {
    let names = (try? FileSystem.list(directory)) ?? []
    for name in names {
      let isStore = name.hasSuffix(Self.suffix) || name.hasSuffix(Self.suffix + "-lock")
      if let last, UInt64(name.prefix(16), radix: 16) ?? .max > last.rawValue { continue }
      if isStore || name.hasPrefix("incoming") {
        try? FileSystem.remove(directory + "/" + name)
      }
    }
  }
}

/// Receives one snapshot: a message and the bytes of a bbolt file, which are made a store of ours
/// before Raft hears of them. etcd: `snapshotHandler`.
struct SnapshotArrival: ~Copyable {
  private enum Failure: Error {
    case refused(PeerRefusal)
    case exchange(Exchange.Failure)
  }

  private var parser: RequestParser
  private let files: SnapshotFiles
  private let syncs: Bool
  private let handshake: Handshake
  private var head: [UInt8] = []
  private var message: Message?
  private var file: Int32 = -1
  private var bytes = 0
  private let startedAt = Clock.monotonic()
  /// Whom it comes from, once that is known.
  private var figures: SnapshotFigures?
  private let peers: PeerMetrics

  init(
    parser: consuming RequestParser, settings: Courier.Settings, handshake: Handshake,
    _ peers: PeerMetrics
  ) {
    self.peers = peers
    self.parser = parser
    files = SnapshotFiles(directory: settings.directory)
    syncs = settings.syncs
    self.handshake = handshake
  }

  deinit { if file >= 0 { FileSystem.close(file) } }

  private var incomingFile: String { files.incoming + ".db" }
  private var incomingStore: String { files.incoming + ".lmdb" }

  /// Serves the request on `incoming`. `isFree`: false when another snapshot is being received.
  mutating func run(_ incoming: Courier.Incoming, isFree: Bool, _ shared: Shared) {
    do throws(Failure) {
      var exchange: Exchange
      do throws(Exchange.Failure) {
        exchange = try Exchange(adopting: incoming, patience: Courier.Limits.patience)
      } catch {
        throw .exchange(error)
      }
      do throws(Failure) {
        guard isFree else { throw .refused(PeerRefusal(503, "another snapshot is received")) }
        let message = try receive(&exchange)
        let synced = try make(message.snapshot)
        shared.metrics.databaseSync.observe(nanoseconds: synced)
        shared.metrics.databaseSave.observe(nanoseconds: Clock.monotonic() - startedAt)
        shared.log.info(
          "received and saved database snapshot",
          ("remote-snapshot-sender-id", Handshake.text(message.message.from.rawValue)),
          ("incoming-snapshot-index", String(message.snapshot.metadata.index.rawValue)),
          ("incoming-snapshot-size-bytes", String(bytes)))
        shared.raft.post(.messages([message.message]))
        figures?.ended(since: startedAt, isWhole: true)
        figures = nil
        try answer(PeerAnswer(204, "", []), &exchange)
      } catch {
        guard case .refused(let refusal) = error else { throw error }
        try answer(PeerAnswer(refusal), &exchange)
        throw error
      }
    } catch {
      figures?.ended(since: startedAt, isWhole: false)
      let text =
        switch error {
        case .refused(let refusal): refusal.text
        case .exchange(let failure): failure.text
        }
      shared.log.warn("failed to receive a database snapshot", ("error", text))
    }
  }

  private func answer(
    _ answer: PeerAnswer, _ exchange: inout Exchange
  ) throws(Failure) {
    var head = ResponseHead(
      status: answer.status, contentType: answer.type, keepsAlive: false, isOld: false)
    head.headers = [(name: "X-Etcd-Cluster-ID", value: handshake.clusterText)]
    var bytes: [UInt8] = []
    head.append(body: answer.body.rawSpan, isHead: false, to: &bytes)
    do throws(Exchange.Failure) { try exchange.write(bytes.rawSpan) } catch {
      throw .exchange(error)
    }
  }

  // MARK: Receiving

  private mutating func receive(
    _ exchange: inout Exchange
  ) throws(Failure) -> (message: Message, snapshot: Snapshot) {
    LMDBBackend.remove(incomingStore)
    do throws(Errno) {
      file = try FileSystem.open(incomingFile, creates: true)
      try FileSystem.truncate(file, to: 0)
    } catch {
      throw .refused(PeerRefusal(500, "failed to save KV snapshot (\(error))"))
    }
    while try !step() {
      var goesOn = false
      do throws(Exchange.Failure) {
        goesOn = try exchange.read { [] piece throws(Exchange.Failure) in
          parser.receive(piece)
        }
      } catch {
        throw .exchange(error)
      }
      guard goesOn else { throw .exchange(.closed) }
    }
    guard let message, case .snapshot(let snapshot) = message.body else {
      throw .refused(.notSnapshot)
    }
    return (message, snapshot)
  }

  /// Takes what has come of the body; true at its end.
  private mutating func step() throws(Failure) -> Bool {
    let request: Request?
    do throws(Refusal) { request = try parser.next() } catch {
      throw .refused(PeerRefusal(error.status, error.reason))
    }
    try take(request?.body ?? parser.takeBody())
    return request != nil
  }

  private mutating func take(_ piece: [UInt8]) throws(Failure) {
    guard message == nil else { return try write(piece.rawSpan) }
    head += piece
    guard head.count >= 8 else { return }
    let length = head.prefix(8).reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(Courier.Limits.messageBytes) else { throw .refused(.badMessage) }
    let end = 8 + Int(length)
    guard head.count >= end else { return }
    let held = head
    head = []
    let decoded: Message
    do throws(WireError) {
      decoded = try Message(decoding: held.rawSpan.extracting(8..<end))
    } catch {
      throw .refused(.badMessage)
    }
    guard case .snapshot = decoded.body, decoded.to == handshake.member else {
      throw .refused(.notSnapshot)
    }
    message = decoded
    figures = peers.figures(of: decoded.from).snapshotsReceived
    figures?.inFlight.add(1)
    try write(held.rawSpan.extracting(end..<held.count))
  }

  private mutating func write(_ piece: RawSpan) throws(Failure) {
    guard piece.byteCount > 0 else { return }
    do throws(Errno) { try FileSystem.write(file, at: bytes, piece) } catch {
      throw .refused(PeerRefusal(500, "failed to save KV snapshot (\(error))"))
    }
    bytes += piece.byteCount
  }

  // MARK: The store

  /// Makes a store of the file, under its own name only when it is whole. How long the sync of
  /// the store took, in nanoseconds.
  private func make(_ snapshot: Snapshot) throws(Failure) -> UInt64 {
    let synced: UInt64
    do throws(ReceivedStore.Failure) {
      let file = file
      let source = BoltSource(size: bytes) { offset, count, bytes throws(BoltError) in
        do throws(Errno) {
          bytes += try FileSystem.read(file, at: offset, count: count)
        } catch {
          throw BoltError(page: nil, "\(error)")
        }
      }
      synced = try ReceivedStore.run(source, to: incomingStore)
    } catch {
      throw .refused(PeerRefusal(500, "failed to save KV snapshot (\(error.text))"))
    }
    let path = files.store(snapshot.metadata.index)
    do throws(Errno) {
      try FileSystem.rename(incomingStore, to: path)
      try FileSystem.syncDirectory(files.directory)
      try FileSystem.remove(incomingFile)
    } catch {
      throw .refused(PeerRefusal(500, "failed to save KV snapshot (\(error))"))
    }
    LMDBBackend.remove(incomingStore)
    return synced
  }
}

/// Makes a store of a bbolt file.
enum ReceivedStore {
  enum Failure: Error {
    case bolt(BoltError)
    case backend(BackendError)
    case disk(Errno)

    var text: String {
      switch self {
      case .bolt(let error): error.text
      case .backend(let error): BackgroundThread.text(error)
      case .disk(let error): "\(error)"
      }
    }
  }

  enum Limits {
    /// Bytes of rows in one commit.
    static let batchBytes = 8 << 20
  }

  /// Reads every page of `source`; the store at `path`, which is new, is durable in the end.
  /// Buckets that are not etcd's are left out. How long the sync took, in nanoseconds.
  static func run(_ source: BoltSource, to path: String) throws(Failure) -> UInt64 {
    let backend: LMDBBackend
    do throws(BackendError) { backend = try LMDBBackend.open(path: path, syncs: false) } catch {
      throw .backend(error)
    }
    try fill(backend, source)
    let start = Clock.monotonic()
    do throws(Errno) {
      let file = try FileSystem.open(path, creates: false)
      defer { FileSystem.close(file) }
      try FileSystem.sync(file)
    } catch {
      throw .disk(error)
    }
    return Clock.monotonic() - start
  }

  private static func fill(
    _ backend: LMDBBackend, _ source: BoltSource
  ) throws(Failure) {
    var batch = WriteBatch()
    var bucket: Bucket?
    var failure: BackendError?
    func flush() {
      do throws(BackendError) { try backend.commit(batch) } catch { failure = error }
      batch = WriteBatch()
    }
    do throws(BoltError) {
      var file = try BoltFile.open(source)
      try file.scanAll { name in
        bucket = Bucket.allCases.first { Array($0.name).rawSpan.equals(name) }
      } row: { key, value in
        guard let bucket else { return true }
        batch.put(bucket, key, value)
        if batch.arena.count >= Limits.batchBytes { flush() }
        return failure == nil
      }
    } catch {
      throw .bolt(error)
    }
    flush()
    if let failure { throw .backend(failure) }
  }
}
