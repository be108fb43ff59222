import Foundation

/// A certificate authority in a temporary folder, run with the `openssl` command.
final class Authority: Sendable {
  let folder: String

  init() throws {
    folder = NSTemporaryDirectory() + "martlet-tls-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let settings = """
      [ca]
      default_ca = own
      [own]
      database = \(folder)/index
      new_certs_dir = \(folder)
      certificate = \(folder)/ca.pem
      private_key = \(folder)/ca.key
      default_md = sha256
      default_crl_days = 30
      """
    try settings.write(toFile: folder + "/ca.cnf", atomically: true, encoding: .utf8)
    try "".write(toFile: folder + "/index", atomically: true, encoding: .utf8)
    try run(
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
      "30", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }

  func run(_ arguments: String...) throws { try run(arguments) }

  /// Makes `name`.pem and `name`.key; `names` as openssl writes them: `DNS:a,IP:127.0.0.1`.
  func issue(_ name: String, commonName: String, names: String) throws {
    try run(
      "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
      "/O=test/CN=\(commonName)", "-keyout", name + ".key", "-out", name + ".csr")
    try "subjectAltName=\(names)\n".write(
      toFile: "\(folder)/\(name).ext", atomically: true, encoding: .utf8)
    var arguments = [
      "x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
      "-CAcreateserial", "-days", "20", "-out", name + ".pem",
    ]
    if !names.isEmpty { arguments += ["-extfile", name + ".ext"] }
    try run(arguments)
  }

  private func run(_ arguments: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.standardError = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
  }

  /// Makes crl.pem, which names the certificates revoked so far.
  func revoke(_ name: String) throws {
    try run("ca", "-config", "ca.cnf", "-revoke", name + ".pem")
    try run("ca", "-config", "ca.cnf", "-gencrl", "-out", "crl.pem")
  }

  func file(_ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/\(name)")))
  }
}
