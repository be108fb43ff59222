internal import Basics
internal import Bolt
internal import HTTP1
internal import LMDB
internal import Peers
internal import Platform
internal import Raft
internal import TLS

/// Sees to the transfer of snapshots: each has a thread of its own, since it waits for disks and
/// for a socket that may take minutes. The peer thread's.
struct Courier {
  struct Settings: Sendable {
    /// Where received snapshots lie until the store takes them.
    var directory: String
    var syncs: Bool
    var tls: TLSFiles?
  }

  /// A connection on which a snapshot begins to come.
  struct Incoming: Sendable {
    var fd: Int32
    var stream: TLSStream?
    /// What its socket has not taken yet.
    var unsent: [UInt8]
  }

  enum Limits {
    static let sending = 2
    /// Bytes of one chunk.
    static let pageBytes = 4096
    /// A transfer that moves nothing for so long is given up.
    static let patience: UInt64 = 30_000_000_000
    /// For the answer to it, which comes when the receiver has made a store of it.
    static let answerPatience: UInt64 = 600_000_000_000
    /// The message before the store's bytes.
    static let messageBytes = 512 << 20
  }

  private let shared: Shared
  private let settings: Settings
  private let handshake: Handshake
  /// Snapshots that were made and are not on their way yet.
  private var sources: [NodeID: SnapshotSource] = [:]
  private var sending: [NodeID] = []
  let isReceiving = Lock(false)

  init(_ shared: Shared, _ settings: Settings, _ handshake: Handshake) {
    self.shared = shared
    self.settings = settings
    self.handshake = handshake
  }

  mutating func take(_ source: SnapshotSource, for member: NodeID) { sources[member] = source }

  mutating func forget(_ member: NodeID) { sources[member] = nil }

  mutating func ended(to member: NodeID) { sending.removeAll { $0 == member } }

  /// Sends a snapshot message and the store behind it. The outcome comes as mail.
  mutating func send(_ message: Message, to urls: [String]) {
    let member = message.to
    let box = shared.peers.box
    guard let source = sources.removeValue(forKey: member), sending.count < Limits.sending else {
      box.post(.snapshotSent(member, isDelivered: false))
      return
    }
    sending.append(member)
    let log = shared.log
    let handshake = handshake
    let tls = settings.tls
    let figures = shared.metrics.peers.figures(of: member).snapshotsSent
    figures.inFlight.add(1)
    Thread.detach("snapshot-out") {
      let start = Clock.monotonic()
      let delivery = SnapshotDelivery(
        message: message, urls: urls, handshake: handshake, source: source, tls: tls)
      var verdict: String?
      do throws(SnapshotDelivery.Failure) {
        try delivery.run()
      } catch {
        verdict = error.text
      }
      figures.ended(since: start, isWhole: verdict == nil)
      let peer = ("remote-peer-id", Handshake.text(member.rawValue))
      if let verdict {
        log.warn("failed to send database snapshot", peer, ("error", verdict))
      } else {
        log.info("sent database snapshot", peer)
      }
      box.post(.snapshotSent(member, isDelivered: verdict == nil))
    }
  }

  /// Takes the body of a request over, on a thread of its own.
  func receive(_ incoming: Incoming, _ parser: consuming RequestParser) {
    let handover = Handover(parser)
    let shared = shared
    let settings = settings
    let handshake = handshake
    let isReceiving = isReceiving
    Thread.detach("snapshot-in") {
      let isFree = isReceiving.withLock { isBusy in
        defer { isBusy = true }
        return !isBusy
      }
      var arrival = SnapshotArrival(
        parser: handover.take(), settings: settings, handshake: handshake,
        shared.metrics.peers)
      arrival.run(incoming, isFree: isFree, shared)
      if isFree { isReceiving.withLock { $0 = false } }
    }
  }
}

/// The store at one position of the log, pinned until it is sent.
final class SnapshotSource: @unchecked Sendable {
  // Shared safely: made by the store's thread and read by the one that sends it, never at once;
  // LMDB's readers here are not bound to threads.
  fileprivate let reader: LMDBBackend.Reader
  init(_ reader: LMDBBackend.Reader) { self.reader = reader }
}

/// Sends one snapshot. etcd: `snapshotSender`.
struct SnapshotDelivery {
  enum Failure: Error {
    case exchange(Exchange.Failure)
    case store(StoreExportError)

    var text: String {
      switch self {
      case .exchange(let failure): failure.text
      case .store(let error): error.text
      }
    }
  }

  var message: Message
  var urls: [String]
  var handshake: Handshake
  var source: SnapshotSource
  var tls: TLSFiles?

  func run() throws(Failure) {
    var failure = Failure.exchange(.unsupported)
    for url in urls {
      do throws(Failure) {
        return try run(url)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  private func run(_ url: String) throws(Failure) {
    let export: StoreExport
    do throws(StoreExportError) {
      export = try StoreExport(
        planning: source.reader, pageSize: Courier.Limits.pageBytes, metaRows: [])
    } catch {
      throw .store(error)
    }
    let exchange: Exchange
    do throws(Exchange.Failure) {
      exchange = try Exchange.connect(to: url, patience: Courier.Limits.patience, tls)
    } catch {
      throw .exchange(error)
    }
    try send(export, over: exchange, url)
  }

  private func send(
    _ export: StoreExport, over connection: consuming Exchange, _ url: String
  ) throws(Failure) {
    var exchange = connection
    var bytes: [UInt8] = []
    PeerRequest(
      "POST", "/raft/snapshot", headers: handshake.headers(to: message.to, isStream: false),
      body: .chunked(type: "application/octet-stream")
    ).encode(for: PeerURL(url)?.authority ?? "", into: &bytes)
    var frame: [UInt8] = []
    MessageWriter.append(message, to: &frame)
    bytes.appendChunk(frame.rawSpan)
    var broken: Exchange.Failure?
    do throws(Exchange.Failure) {
      try exchange.write(bytes.rawSpan)
      var chunk: [UInt8] = []
      do throws(StoreExportError) {
        try export.write(from: source.reader) { piece in
          chunk.removeAll(keepingCapacity: true)
          chunk.appendChunk(piece)
          do throws(Exchange.Failure) { try exchange.write(chunk.rawSpan) } catch {
            broken = error
          }
          return broken == nil
        }
      } catch {
        throw broken ?? .closed
      }
      chunk.removeAll(keepingCapacity: true)
      chunk.appendLastChunk()
      try exchange.write(chunk.rawSpan)
      exchange.patience = Courier.Limits.answerPatience
      let (head, body) = try exchange.answer()
      let verdict = PeerVerdict(status: head.status, body: body, isStream: false)
      guard verdict == .accepted else { throw .refused(verdict) }
    } catch {
      throw .exchange(error)
    }
  }
}
