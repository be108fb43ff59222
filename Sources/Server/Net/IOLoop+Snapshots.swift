internal import Basics
internal import HTTP2
internal import Platform
internal import Replica
internal import Services

extension IOLoop {
  /// Has the snapshots made that clients asked for.
  mutating func beginSnapshots() {
    let ids = out.snapshots
    out.snapshots.removeAll(keepingCapacity: true)
    // One that was cancelled with the same bytes is not there any more.
    for id in ids where calls[id] != nil {
      let hasRoom = shared.snapshots.withLock { count in
        guard count < SnapshotStream.Limits.streamsMax else { return false }
        count += 1
        return true
      }
      guard hasRoom else {
        services.snapshotEnded(id, .tooMany, out: &out)
        continue
      }
      let stream = SnapshotStream(call: id, loop: shared.loops[number])
      snapshots[id] = stream
      shared.apply.post(.snapshot(stream))
    }
  }

  /// Sends what has been made of a snapshot while the client takes it.
  mutating func forwardSnapshot(_ id: CallID) {
    guard let stream = snapshots[id] else { return }
    var moved = 0
    while let call = calls[id], isWritable(call) {
      if moved >= SnapshotStream.Limits.bytesPerWake { return stream.wake() }
      if let message = stream.take() {
        moved += message.count
        services.snapshot(id, message.rawSpan, out: &out)
        deliver()
        continue
      }
      guard let ending = stream.ending else { return }
      snapshots[id] = nil
      switch ending {
      case .whole: services.snapshotEnded(id, nil, out: &out)
      case .failed(let text): services.snapshotEnded(id, Failure(.internalError, text), out: &out)
      case .stalled: giveUp(id)
      }
      return
    }
    if stream.ending == .stalled { giveUp(id) }
  }

  /// Resets the stream of a client that does not read, or ends its connection, which frees all
  /// that waited for it.
  private mutating func giveUp(_ id: CallID) {
    shared.log.warn("a client does not read its snapshot; the call was reset")
    guard let call = end(id) else { return }
    services.cancelled(id, out: &out)
    if case .http2(let session) = call.connection.speaker {
      session.cancel(call.stream)
    } else {
      call.connection.end()
    }
    mark(call.connection)
  }
}
