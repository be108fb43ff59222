internal import CLinux

/// This machine, and it among others.
public enum Machine {
  /// The address that the default route goes out from, IPv4 before IPv6; nil when there is none.
  /// etcd: pkg/netutil `GetDefaultHost`.
  public static func defaultHost() -> String? {
    var text = [CChar](repeating: 0, count: 64)
    let length = unsafe martlet_default_host(&text, text.count)
    guard length > 0 else { return nil }
    return String(decoding: text[..<Int(length)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Gives the system back what the process has freed. Other threads may have to wait where they
  /// allocate: some 0.2 ms for each MiB.
  public static func trimMemory() { martlet_trim_memory() }
}
