internal import CLinux

/// systemd's journal, by its own protocol.
public struct Journal: Sendable {
  public static let standardPath = "/run/systemd/journal/socket"
  private let path: String
  private let program: String

  /// Throws when nobody listens at `path`. `program`: what the journal knows the sender by.
  public init(_ path: String = standardPath, program: String) throws(Errno) {
    self.path = path
    self.program = program
    _ = try check(unsafe martlet_send_datagram(path, nil, 0, 0))
  }

  /// Sends one line with syslog's priority for it. Waits for a journal that is busy.
  public func send(_ line: [UInt8], priority: UInt8) throws(Errno) {
    // A field without a length ends with its line.
    let text = line.filter { $0 != 10 }
    let bytes =
      Array("MESSAGE=".utf8) + text
      + Array("\nPRIORITY=\(priority)\nSYSLOG_IDENTIFIER=\(program)\n".utf8)
    _ = try check(unsafe martlet_send_datagram(path, bytes, bytes.count, 1))
  }
}
