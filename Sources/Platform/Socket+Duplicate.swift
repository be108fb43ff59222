internal import CLinux
internal import Glibc

extension Socket {
  /// A second descriptor of the same connection, which outlives this one; the caller closes it.
  /// Nil when descriptors have run out.
  public func duplicate() -> Int32? {
    let copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    return copy >= 0 ? copy : nil
  }

  /// The other side's numeric address without the port; empty when it has none.
  public var peerAddress: String {
    let name = peerName
    guard let colon = name.lastIndex(of: ":") else { return "" }
    let host = name[..<colon]
    return host.hasPrefix("[") && host.hasSuffix("]")
      ? String(host.dropFirst().dropLast()) : String(host)
  }

  /// The name of a numeric address; nil when it has none. Waits for DNS, which may take seconds.
  public static func name(of address: String) -> String? {
    var text = [CChar](repeating: 0, count: 1025)
    let count = unsafe martlet_reverse(address, &text, text.count)
    guard count > 0 else { return nil }
    return String(
      decoding: text.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
