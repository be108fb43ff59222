internal import Basics
internal import HTTP2
internal import Platform
internal import TLS

extension Connection {
  /// Seals what waits and writes what the socket takes.
  func writeSealed(_ sealing: Sealing, _ metrics: Metrics, now: UInt64) -> Progress {
    while true {
      do throws(TLSError) {
        try seal(sealing)
      } catch {
        return .broken
      }
      guard sealing.waitingBytes > 0 else { break }
      let count: Int
      do throws(Errno) {
        count = try sealing.write(to: socket)
      } catch {
        return .broken
      }
      if count == 0 { return .blocked }
      metrics.sentBytes.add(count)
      lastActive = now
    }
    if case .http2(let session) = speaker, session.isFinished { end() }
    if case .writing = ending, sealing.close() {
      return writeSealed(sealing, metrics, now: now)
    }
    return .done
  }

  private func seal(_ sealing: Sealing) throws(TLSError) {
    guard sealing.waitingBytes < Limits.outputBytes else { return }
    if case .http2(let session) = speaker {
      session.output(into: &output, limit: Limits.outputBytes)
    }
    let bytes = output
    try sealing.seal(bytes.rawSpan)
    output.removeAll(keepingCapacity: output.capacity <= Limits.keptBytes)
  }
}
