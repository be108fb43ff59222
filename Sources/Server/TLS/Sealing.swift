internal import Basics
internal import Platform
internal import TLS

/// A connection whose handshake is through.
struct SecuredSocket: Sendable {
  let fd: Int32
  let stream: TLSStream
  /// Clear text that came with the end of the handshake.
  var received: [UInt8]
  /// Ciphertext that the socket has not taken yet.
  var unsent: [UInt8]
}

/// A connection's TLS: between the socket and what is spoken in clear text.
final class Sealing {
  let stream: TLSStream
  /// Ciphertext for the socket; `sent` of it is written.
  private var output: [UInt8]
  private var sent = 0
  /// The other side has been told that nothing more comes.
  private var isClosed = false
  /// The user that the other side's certificate stands for; empty: none.
  let commonName: [UInt8]

  init(_ secured: SecuredSocket, commonName: [UInt8] = []) {
    stream = secured.stream
    output = secured.unsent
    self.commonName = commonName
  }

  var waitingBytes: Int { output.count - sent }

  /// What waits, for who takes the connection over.
  var unsent: [UInt8] { Array(output[sent...]) }

  /// Seals `bytes`, behind what TLS itself has to say.
  func seal(_ bytes: RawSpan) throws(TLSError) {
    try stream.send(bytes)
    stream.takeOutput(into: &output)
  }

  /// Tells the other side that nothing more comes; false when it was told before.
  func close() -> Bool {
    guard !isClosed else { return false }
    isClosed = true
    stream.close()
    return true
  }

  /// What `socket` takes of what waits: 0 when it takes nothing now.
  func write(to socket: borrowing Socket) throws(Errno) -> Int {
    let bytes = output
    let count = try socket.write(bytes.rawSpan.extracting(sent..<bytes.count))
    sent += count
    if waitingBytes == 0 {
      output.removeAll(keepingCapacity: output.capacity <= Connection.Limits.keptBytes)
      sent = 0
    } else if sent >= waitingBytes {
      // Who reads slowly may never take all of it.
      output.removeFirst(sent)
      sent = 0
    }
    return count
  }
}
