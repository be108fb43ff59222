internal import Config
internal import Platform
internal import TLS

/// The certificates of one port, read again whenever their files change: new connections get the
/// new ones, and the old ones go on serving as long as the new ones cannot be used.
final class TLSFiles: Sendable {
  enum Limits {
    static let fileBytes = 16 << 20
    /// Between two looks at the files.
    static let lookNanoseconds: UInt64 = 500_000_000
    /// Between two warnings of one certificate, and how long before its end they begin.
    static let warnNanoseconds: UInt64 = 24 * 3_600_000_000_000
    static let expirySeconds: Int64 = 30 * 86400
  }

  private struct State: Sendable {
    var contexts: Contexts
    var stamps: [FileStamp?]
    var warnsAt: UInt64 = 0
  }

  struct Contexts: Sendable {
    /// Nil when there is no certificate to serve with.
    var server: TLSContext?
    /// For calls to others.
    var client: TLSContext
  }

  /// `client` or `peer`, for the log.
  let port: String
  private let options: TLSOptions
  private let paths: [String]
  private let state: Lock<State>

  /// Throws what cannot be used, in etcd's words.
  init(_ options: TLSOptions, port: String) throws(StartError) {
    self.options = options
    self.port = port
    paths = [
      options.certificateFile, options.keyFile, options.clientCertificateFile,
      options.clientKeyFile, options.trustedCAFile, options.revocationFile,
    ].filter { !$0.isEmpty }
    let stamps = paths.map(FileSystem.stamp)
    do throws(TLSError) {
      state = Lock(State(contexts: try Self.read(options, port: port), stamps: stamps))
    } catch {
      throw StartError("\(error.text) [\(port) TLS]")
    }
  }

  /// What a connection that begins now is made with.
  var contexts: Contexts { state.withLock { $0.contexts } }

  // MARK: Reading

  private static func read(
    _ options: TLSOptions, port: String
  ) throws(TLSError) -> Contexts {
    func bytes(_ path: String) throws(TLSError) -> [UInt8] {
      if path.isEmpty { return [] }
      do throws(Errno) {
        return try FileSystem.contents(path, bytesMax: Limits.fileBytes)
      } catch {
        throw .settings("open \(path): \(error)")
      }
    }
    var server = TLSSettings()
    server.certificate = try bytes(options.certificateFile)
    server.key = try bytes(options.keyFile)
    server.authorities = try bytes(options.trustedCAFile)
    server.revocations = try bytes(options.revocationFile)
    server.verifies = options.demandsCertificates
    server.allowedCommonNames = options.allowedCommonNames
    server.allowedHostnames = options.allowedHostnames
    // Members speak HTTP/1.1 alone, to whatever else asks on their port too.
    if port == "peer" { server.speaks = [.http1] }
    server.cipherSuites = options.cipherSuites
    server.versionMin = options.versionMin == .tls13 ? .tls13 : .tls12
    server.versionMax = options.versionMax.map { $0 == .tls13 ? .tls13 : .tls12 }
    var client = server
    // One that was made here names no authority, so that nobody could check it.
    client.verifies = !options.isAutomatic
    if !options.clientCertificateFile.isEmpty {
      client.certificate = try bytes(options.clientCertificateFile)
      client.key = try bytes(options.clientKeyFile)
    }
    return Contexts(
      server: server.certificate.isEmpty ? nil : try TLSContext.make(server, .server),
      client: try TLSContext.make(client, .client))
  }

  /// Reads the files again if one has changed, and warns of a certificate that ends soon.
  func refresh(_ log: Logger) {
    let stamps = paths.map(FileSystem.stamp)
    let before = state.withLock { $0.stamps }
    if stamps != before {
      do throws(TLSError) {
        let contexts = try Self.read(options, port: port)
        state.withLock {
          $0.contexts = contexts
          $0.stamps = stamps
          $0.warnsAt = 0
        }
        log.info(
          "TLS files were read again", ("port", port), ("cert-file", options.certificateFile),
          ("serial", contexts.server?.certificate?.serial ?? ""))
      } catch {
        // Once for each state of the files: the stamps are kept.
        state.withLock { $0.stamps = stamps }
        log.warn(
          "TLS files have changed and cannot be used; the old ones go on serving",
          ("port", port), ("error", error.text))
      }
    }
    warnOfExpiry(log)
  }

  private func warnOfExpiry(_ log: Logger) {
    let now = Clock.monotonic()
    let certificate = state.withLock { state in
      guard now >= state.warnsAt else { return Certificate?.none }
      state.warnsAt = now + Limits.warnNanoseconds
      return state.contexts.server?.certificate
    }
    guard let certificate else { return }
    let left = certificate.notAfter - Int64(Clock.wall() / 1_000_000_000)
    guard left < Limits.expirySeconds else { return }
    let fields = [
      ("port", port), ("cert-file", options.certificateFile), ("serial", certificate.serial),
      ("hours-left", String(left / 3600)),
    ]
    if left <= 0 {
      log.error("the certificate has expired", fields[0], fields[1], fields[2])
    } else {
      log.warn("the certificate expires soon", fields[0], fields[1], fields[2], fields[3])
    }
  }

  /// Looks after the files of `all` from a thread of its own.
  static func watch(_ all: [TLSFiles], _ log: Logger) {
    guard !all.isEmpty else { return }
    Thread.detach("tls-files") {
      let pause = Lock(())
      while true {
        for files in all { files.refresh(log) }
        pause.wait(until: Clock.monotonic() + Limits.lookNanoseconds, { _ in false }, { _ in })
      }
    }
  }
}

extension TLSOptions {
  /// With a certificate that is made when none is given, in `<data-dir>/fixtures/<port>` as etcd
  /// has it; one that is there already is taken. etcd: `transport.SelfCert`.
  func withCertificate(
    _ dataDirectory: String, port: String, hosts: [String], years: Int64, _ log: Logger
  ) throws(StartError) -> TLSOptions {
    var options = self
    guard isAutomatic, isEmpty else {
      // Certificates that are given are looked at, whatever --auto-tls says.
      options.isAutomatic = false
      return options
    }
    let folder = "\(dataDirectory)/fixtures/\(port)"
    options.certificateFile = folder + "/cert.pem"
    options.keyFile = folder + "/key.pem"
    if FileSystem.exists(options.certificateFile), FileSystem.exists(options.keyFile) {
      return options
    }
    do {
      let made = try makeSelfSigned(
        hosts: hosts, validSeconds: min(years, 1000) * 365 * 86400)
      try FileSystem.makeDirectory("\(dataDirectory)/fixtures")
      try FileSystem.makeDirectory(folder)
      try FileSystem.create(options.certificateFile, made.certificate, mode: 0o644)
      try FileSystem.create(options.keyFile, made.key, mode: 0o600)
    } catch {
      let text = (error as? TLSError)?.text ?? "\(error)"
      throw StartError("cannot make a certificate in \(folder): \(text)")
    }
    log.warn(
      "automatically generated a certificate", ("port", port),
      ("cert-file", options.certificateFile), ("hosts", hosts.joined(separator: ",")))
    return options
  }
}
