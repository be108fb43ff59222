internal import CLinux

/// This machine among others.
public enum Machine {
  /// The address that the default route goes out from, IPv4 before IPv6; nil when there is none.
  /// etcd: pkg/netutil `GetDefaultHost`.
  public static func defaultHost() -> String? {
    var text = [CChar](repeating: 0, count: 64)
    let length = unsafe martlet_default_host(&text, text.count)
    guard length > 0 else { return nil }
    return String(decoding: text[..<Int(length)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
