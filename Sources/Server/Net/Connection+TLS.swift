internal import Basics
internal import HTTP2
internal import Platform
internal import TLS

/// A connection's TLS: between the socket and what is spoken in clear text.
final class Sealing {
  let stream: TLSStream
  /// Ciphertext for the socket; `sent` of it is written.
  var output: [UInt8]
  var sent = 0
  /// The client has been told that nothing more comes.
  var isClosed = false
  /// The user that the client's certificate stands for; empty: none.
  let commonName: [UInt8]

  init(_ stream: TLSStream, unsent: [UInt8], commonName: [UInt8]) {
    self.stream = stream
    self.commonName = commonName
    output = unsent
  }

  var waitingBytes: Int { output.count - sent }
}

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
        let bytes = sealing.output
        count = try socket.write(bytes.rawSpan.extracting(sealing.sent..<bytes.count))
      } catch {
        return .broken
      }
      if count == 0 { return .blocked }
      metrics.sentBytes.add(count)
      lastActive = now
      sealing.sent += count
      if sealing.waitingBytes == 0 {
        sealing.output.removeAll(keepingCapacity: sealing.output.capacity <= 256 << 10)
        sealing.sent = 0
      }
    }
    if case .http2(let session) = speaker, session.isFinished { end() }
    if case .writing = ending, !sealing.isClosed {
      sealing.isClosed = true
      sealing.stream.close()
      return writeSealed(sealing, metrics, now: now)
    }
    return .done
  }

  private func seal(_ sealing: Sealing) throws(TLSError) {
    guard sealing.waitingBytes < Limits.outputBytes else { return }
    if case .http2(let session) = speaker {
      session.output(into: &output, limit: Limits.outputBytes)
    }
    if !output.isEmpty {
      let bytes = output
      try sealing.stream.send(bytes.rawSpan)
      output.removeAll(keepingCapacity: output.capacity <= 256 << 10)
    }
    sealing.stream.takeOutput(into: &sealing.output)
  }
}
