internal import Basics
internal import GRPC
internal import HTTP1
internal import HTTP2
internal import Platform
internal import Services

/// One client's connection, one io thread's: the socket, what speaks on it, and what waits to be
/// written. A class, because calls and the poller both point at it.
final class Connection {
  enum Limits {
    /// Bytes waiting for the socket above which no more are taken from the session.
    static let outputBytes = 1 << 20
  }

  enum Speaker {
    /// Too few bytes to know yet.
    case unknown([UInt8])
    case http2(Session)
    case http1
  }

  /// A gRPC call's stream.
  struct Stream {
    var call: CallID
    var reader: MessageReader
    var isGzip: Bool
    /// Plain requests over HTTP/2 keep their path here.
    var plain: (method: String, path: String, query: String)?
  }

  let token: UInt64
  let socket: Socket
  var speaker = Speaker.unknown([])
  var parser: RequestParser
  var streams: [Int32: Stream] = [:]
  var output: [UInt8] = []
  var sent = 0
  var wantsWrite = false
  var isDirty = false
  /// Closed once everything is written.
  var isEnding = false
  var lastActive: UInt64
  var pingedAt: UInt64 = 0

  init(token: UInt64, socket: consuming Socket, now: UInt64, bodyBytesMax: Int) {
    self.token = token
    self.socket = socket
    parser = RequestParser(bodyBytesMax: bodyBytesMax)
    lastActive = now
  }

  /// Writes what the socket takes. False: the connection is broken or done.
  func write(_ metrics: Metrics) -> Bool {
    while true {
      if case .http2(let session) = speaker, output.count - sent < Limits.outputBytes {
        session.output(into: &output, limit: output.count + Limits.outputBytes)
      }
      guard sent < output.count else { break }
      let count: Int
      do throws(Errno) {
        let bytes = output
        count = try socket.write(bytes.rawSpan.extracting(sent..<bytes.count))
      } catch {
        return false
      }
      if count == 0 { return true }
      metrics.sentBytes.add(count)
      sent += count
      if sent == output.count {
        output.removeAll(keepingCapacity: output.capacity <= 256 << 10)
        sent = 0
      }
    }
    if isEnding { return false }
    if case .http2(let session) = speaker, session.isFinished { return false }
    return true
  }

  var hasOutput: Bool { sent < output.count }
}
