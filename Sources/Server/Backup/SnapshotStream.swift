internal import Basics
internal import Bolt
internal import LMDB
internal import MVCC
internal import Platform
internal import Services
internal import TLS

/// One snapshot on its way to a client: a thread of its own makes the file's bytes from a
/// snapshot of the store, an io loop takes them as the client reads.
///
/// The thread waits while `Limits.bytesMax` are not taken, and gives up on a client that takes
/// nothing for `Limits.stallNanoseconds`, since a held snapshot keeps pages from being used again.
final class SnapshotStream: Sendable {
  enum Limits {
    /// Bytes made and not yet taken.
    static let bytesMax = 1 << 20
    static let blobBytes = 64 << 10
    /// What a loop moves in one wake, so that its other clients do not wait for long.
    static let bytesPerWake = 256 << 10
    static let stallNanoseconds: UInt64 = 30_000_000_000
    /// Snapshots that may be under way at once.
    static let streamsMax = 4
    /// As etcd's, so that the file is read by whoever reads etcd's.
    static let pageBytes = 4096
  }

  /// What came of a snapshot.
  enum Ending: Equatable, Sendable {
    case whole
    case failed(String)
    /// The client does not read: there is no use in telling it.
    case stalled
  }

  private struct State {
    var messages: [[UInt8]] = []
    var next = 0
    var bytes = 0
    var ending: Ending?
    /// Nobody takes any more.
    var isClosed = false
  }

  let call: CallID
  private let loop: LoopHandle
  private let state = Lock(State())

  init(call: CallID, loop: LoopHandle) {
    self.call = call
    self.loop = loop
  }

  // MARK: The loop's side

  /// The next message; nil when there is none yet, or none any more.
  func take() -> [UInt8]? {
    let message: [UInt8]? = state.withLock { state in
      guard state.next < state.messages.count else { return nil }
      let message = state.messages[state.next]
      state.messages[state.next] = []
      state.next += 1
      state.bytes -= message.count
      if state.next == state.messages.count {
        state.messages.removeAll(keepingCapacity: true)
        state.next = 0
      }
      return message
    }
    if message != nil { state.signal() }
    return message
  }

  /// How it ended, once everything was taken or nothing more can be.
  var ending: Ending? {
    state.withLock { state in
      state.messages.isEmpty || state.ending != .whole ? state.ending : nil
    }
  }

  /// The client has gone.
  func close() {
    state.withLock { $0.isClosed = true }
    state.signal()
  }

  // MARK: The thread's side

  /// Starts the thread: what the backend holds now is what the client gets.
  func start(_ shared: Shared) {
    Thread.detach("snapshot") {
      Thread.stepBack()
      let ending = self.run(shared)
      self.state.withLock { $0.ending = ending }
      shared.snapshots.withLock { $0 -= 1 }
      self.wake()
    }
  }

  private func run(_ shared: Shared) -> Ending {
    let start = Clock.monotonic()
    do {
      let reader = try shared.backend.makeReader()
      try reader.renew()
      let export = try StoreExport(planning: reader, pageSize: Limits.pageBytes, metaRows: [])
      var left = export.layout.bytes
      let hash = SHA256Hash()
      var ending = Ending.whole
      do throws(StoreExportError) {
        try export.write(from: reader) { piece in
          hash.update(piece)
          ending = self.offer(piece, &left, shared)
          return ending == .whole
        }
      } catch {
        guard error == .stopped else { throw error }
        return ending
      }
      let sum = hash.finish()
      let message = SnapshotMessage.encode(sum.rawSpan, remaining: 0)
      ending = offer(message, shared)
      shared.metrics.backendSnapshot.observe(nanoseconds: Clock.monotonic() - start)
      shared.log.info(
        "sent a snapshot", ("bytes", String(export.layout.bytes)),
        ("took", "\((Clock.monotonic() - start) / 1_000_000)ms"))
      return ending
    } catch {
      let text = (error as? StoreExportError)?.text ?? (error as? BackendError)?.text ?? "\(error)"
      shared.log.error("a snapshot could not be made", ("error", text))
      return .failed(text)
    }
  }

  /// Cuts a piece into messages.
  private func offer(_ piece: RawSpan, _ left: inout Int, _ shared: Shared) -> Ending {
    var at = 0
    while at < piece.byteCount {
      let count = min(Limits.blobBytes, piece.byteCount - at)
      left -= count
      let blob = piece.extracting(at..<at + count)
      let ending = offer(SnapshotMessage.encode(blob, remaining: left), shared)
      guard ending == .whole else { return ending }
      at += count
    }
    return .whole
  }

  /// Waits for room, and then for its turn beside those who write.
  private func offer(_ message: [UInt8], _ shared: Shared) -> Ending {
    let deadline = Clock.monotonic() + Limits.stallNanoseconds
    var wasEmpty = false
    let ending: Ending = state.wait(
      until: deadline, { $0.bytes < Limits.bytesMax || $0.isClosed }
    ) { state in
      if state.isClosed { return .failed("the client has gone") }
      guard state.bytes < Limits.bytesMax else { return .stalled }
      wasEmpty = state.messages.isEmpty
      state.messages.append(message)
      state.bytes += message.count
      return .whole
    }
    if wasEmpty { wake() }
    let due = shared.paced(message.count)
    state.wait(until: due, { $0.isClosed }, { _ in })
    return ending
  }

  /// Has the loop come back for more.
  func wake() { loop.box.post(.snapshot(call)) }
}
