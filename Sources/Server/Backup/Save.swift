internal import API
internal import Basics
internal import HTTP2
internal import Platform
internal import TLS

/// Fetches a snapshot from a running server, etcd's or ours, into a file that gets its name when
/// it is whole. etcd: client/v3/snapshot.
struct Save {
  private enum Limits {
    static let silenceSeconds = 60
    static let readBytes = 256 << 10
  }

  var endpoint: String
  var path: String
  /// A user's name and password, with a colon between them; empty where there are no users.
  var user = ""

  func run() throws(BackupError) {
    let address = try address()
    let token = try token(address)
    var target = try Target(path + ".part")
    let progress = Progress("saving \(path)")
    do throws(BackupError) {
      try call(address, "Maintenance/Snapshot", [], token: token) { message throws(BackupError) in
        guard let answer = try? SnapshotResponse(decoding: message.rawSpan) else {
          throw BackupError("\(endpoint): an answer that is no SnapshotResponse")
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

  private func address() throws(BackupError) -> (host: String, port: String) {
    var rest = endpoint[...]
    if rest.hasPrefix("https://") || rest.hasPrefix("unix") {
      throw BackupError("\(endpoint): only http is spoken here, use etcdctl snapshot save")
    }
    if rest.hasPrefix("http://") { rest = rest.dropFirst(7) }
    guard !rest.contains(",") else {
      throw BackupError(
        "snapshot must be requested to one selected node, not multiple [\(endpoint)]")
    }
    guard let colon = rest.lastIndex(of: ":") else {
      throw BackupError("\(endpoint) does not have the form \"host:port\"")
    }
    var host = rest[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
    return (String(host), String(rest[rest.index(after: colon)...]))
  }

  /// What proves that the caller is the user.
  private func token(_ address: (host: String, port: String)) throws(BackupError) -> String {
    guard !user.isEmpty else { return "" }
    let halves = user.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
    guard halves.count == 2 else {
      throw BackupError("--user takes a name and a password with a colon between them")
    }
    var request: [UInt8] = []
    AuthenticateRequest(name: String(halves[0]), password: String(halves[1]))
      .encode(into: &request)
    var token = ""
    try call(address, "Auth/Authenticate", request, token: "") { message throws(BackupError) in
      token = (try? AuthenticateResponse(decoding: message.rawSpan))?.token ?? ""
    }
    return token
  }

  /// Makes one call on a connection of its own, and hands each message of the answer to `body`.
  private func call(
    _ address: (host: String, port: String), _ method: String, _ request: [UInt8],
    token: String, _ body: (_ message: [UInt8]) throws(BackupError) -> Void
  ) throws(BackupError) {
    let socket: DialledSocket
    do throws(Errno) {
      socket = try DialledSocket.open(
        host: address.host, port: address.port, seconds: Limits.silenceSeconds)
    } catch {
      throw BackupError("dial \(endpoint): \(lowercased(error))")
    }
    let call = ClientCall(
      path: "/etcdserverpb.\(method)", authority: "\(address.host):\(address.port)",
      message: request, token: token)
    var buffer = [UInt8](repeating: 0, count: Limits.readBytes)
    var output: [UInt8] = []
    while true {
      while let message = call.nextMessage() { try body(message) }
      if let ending = call.ending {
        guard ending.code == 0 else {
          throw BackupError("rpc error: code = \(ending.code) desc = \(ending.text)")
        }
        return
      }
      output.removeAll(keepingCapacity: true)
      call.output(into: &output)
      do throws(Errno) {
        if !output.isEmpty { try socket.write(output) }
        let count = try socket.read(into: &buffer)
        guard count > 0, call.receive(buffer.rawSpan.extracting(0..<count)) else {
          throw Errno.ended
        }
      } catch {
        throw BackupError("\(endpoint): the connection broke: \(lowercased(error))")
      }
    }
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
