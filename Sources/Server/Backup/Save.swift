internal import API
internal import Basics
internal import HTTP2
internal import Peers
internal import Platform
internal import TLS

/// Fetches a snapshot from a running server, etcd's or ours, into a file that gets its name when
/// it is whole. etcd: client/v3/snapshot.
struct Save {
  private enum Limits {
    /// A server that says nothing for so long is given up.
    static let silenceNanoseconds: UInt64 = 60_000_000_000
  }

  let server: ClientOptions
  let path: String

  func run() throws(BackupError) {
    let deadline = server.commandNanoseconds.map { Clock.monotonic() + $0 }
    let token = try token()
    var target = try Target(path + ".part")
    let progress = Progress("saving \(path)")
    do throws(BackupError) {
      try call("Maintenance/Snapshot", [], token: token, until: deadline) {
        message throws(BackupError) in
        guard let answer = try? SnapshotResponse(decoding: message.rawSpan) else {
          throw BackupError("\(server.endpoint): an answer that is no SnapshotResponse")
        }
        try target.add(answer.blob)
        let total = target.bytes + Int(clamping: answer.remainingBytes)
        progress.show(total > 0 ? target.bytes * 100 / total : 100)
      }
      progress.end()
      try target.finish()
      do throws(Errno) {
        try FileSystem.rename(path + ".part", to: path)
      } catch {
        throw BackupError("\(path): \(lowercased(error))")
      }
    } catch {
      try? FileSystem.remove(path + ".part")
      throw error
    }
  }

  /// What proves that the caller is the user. As etcdctl, none where there are no users.
  private func token() throws(BackupError) -> String {
    guard !server.user.isEmpty, !server.password.isEmpty else { return "" }
    var request: [UInt8] = []
    AuthenticateRequest(name: server.user, password: server.password).encode(into: &request)
    var token = ""
    let deadline = Clock.monotonic() + server.dialNanoseconds
    let ending = try ending(of: "Auth/Authenticate", request, token: "", until: deadline) {
      message throws(BackupError) in
      token = (try? AuthenticateResponse(decoding: message.rawSpan))?.token ?? ""
    }
    guard ending.code == 0 || ending.text == Self.noUsers else { throw BackupError(ending) }
    return token
  }

  private static let noUsers = "etcdserver: authentication is not enabled"

  private func call(
    _ method: String, _ request: [UInt8], token: String, until deadline: UInt64?,
    _ body: (_ message: [UInt8]) throws(BackupError) -> Void
  ) throws(BackupError) {
    let ending = try ending(of: method, request, token: token, until: deadline, body)
    guard ending.code == 0 else { throw BackupError(ending) }
  }

  /// Makes one call on a connection of its own, and hands each message of the answer to `body`.
  private func ending(
    of method: String, _ request: [UInt8], token: String, until deadline: UInt64?,
    _ body: (_ message: [UInt8]) throws(BackupError) -> Void
  ) throws(BackupError) -> ClientCall.Ending {
    var exchange = try dial()
    let call = ClientCall(
      path: "/etcdserverpb.\(method)", isSecure: server.tls != nil,
      authority: server.url.authority, message: request, token: token)
    var output: [UInt8] = []
    while true {
      while let message = call.nextMessage() { try body(message) }
      if let ending = call.ending { return ending }
      output.removeAll(keepingCapacity: true)
      call.output(into: &output)
      let now = Clock.monotonic()
      let left = deadline.map { $0 - min($0, now) } ?? .max
      guard left > 0 else { throw BackupError("context deadline exceeded") }
      exchange.patience = min(Limits.silenceNanoseconds, left)
      var isUnderstood = true
      var goesOn = true
      do throws(Exchange.Failure) {
        if !output.isEmpty { try exchange.write(output.rawSpan) }
        goesOn = try exchange.read { isUnderstood = call.receive($0) }
      } catch {
        if case .timedOut = error, left < Limits.silenceNanoseconds {
          throw BackupError("context deadline exceeded")
        }
        throw BackupError("\(server.endpoint): the connection broke: \(Self.text(error))")
      }
      guard isUnderstood, goesOn else {
        throw BackupError(
          "\(server.endpoint): the connection broke: "
            + (goesOn ? "what came is not HTTP/2" : "the server has closed it")
            + (server.tls == nil ? "; is it one with TLS? [https://, --cacert]" : ""))
      }
    }
  }

  private func dial() throws(BackupError) -> Exchange {
    do throws(Exchange.Failure) {
      return try Exchange.connect(
        to: server.url, patience: server.dialNanoseconds, server.tls, speaks: .http2)
    } catch {
      // What speaks HTTP only takes a handshake for nonsense.
      let isDeaf = if case .closed = error { server.tls != nil } else { false }
      throw BackupError(
        "dial \(server.endpoint): \(Self.text(error))"
          + (isDeaf ? "; is it one without TLS? [http://]" : ""))
    }
  }

  private static func text(_ failure: Exchange.Failure) -> String {
    if case .socket(let error) = failure { return lowercased(error) }
    return failure.text
  }

  /// The file as it grows. The last blob is the checksum of those before.
  private struct Target {
    let file: Int32
    let path: String
    var bytes = 0
    private let hash = SHA256Hash()
    private var last: [UInt8] = []

    init(_ path: String) throws(BackupError) {
      self.path = path
      do throws(Errno) {
        file = try FileSystem.open(path, creates: true)
      } catch {
        throw BackupError("could not open \(path) (\(lowercased(error)))")
      }
    }

    mutating func add(_ blob: [UInt8]) throws(BackupError) {
      hash.update(last.rawSpan)
      last = blob
      try write(blob)
    }

    private mutating func write(_ blob: [UInt8]) throws(BackupError) {
      do throws(Errno) {
        try FileSystem.write(file, at: bytes, blob.rawSpan)
        bytes += blob.count
      } catch {
        throw BackupError("write \(path): \(lowercased(error))")
      }
    }

    func finish() throws(BackupError) {
      defer { FileSystem.close(file) }
      guard bytes % 512 == SnapshotFile.hashBytes, hash.finish() == last else {
        throw BackupError("sha256 checksum not found or wrong [bytes: \(bytes)]")
      }
      do throws(Errno) {
        try FileSystem.sync(file)
      } catch {
        throw BackupError("sync \(path): \(lowercased(error))")
      }
    }
  }
}

extension BackupError {
  /// As Go's client prints what a server refuses: etcd's own words, or gRPC's code and text.
  fileprivate init(_ ending: ClientCall.Ending) {
    let isServers = ending.text.hasPrefix("etcdserver: ")
    text = isServers ? ending.text : "rpc error: code = \(ending.code) desc = \(ending.text)"
  }
}
