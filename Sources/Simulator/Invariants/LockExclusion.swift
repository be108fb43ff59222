internal import Basics

/// Two clients never hold a lock together, while each may count on its lease.
/// etcd: client/v3/concurrency.
struct LockExclusion {
  private struct Holding {
    var name: [UInt8]
    var client: Int
    var until: UInt64
  }

  private var holdings: [Holding] = []
  private(set) var acquired = 0

  mutating func acquired(
    _ name: [UInt8], by client: Int, until: UInt64, now: UInt64
  ) -> String? {
    guard until > now else { return nil }
    acquired += 1
    if let other = holdings.first(where: {
      $0.name == name && $0.client != client && $0.until > now
    }) {
      return "clients \(other.client) and \(client) both hold a lock"
    }
    holdings.removeAll { $0.name == name && $0.client == client || $0.until <= now }
    holdings.append(Holding(name: name, client: client, until: until))
    return nil
  }

  mutating func extended(by client: Int, until: UInt64) {
    for at in holdings.indices where holdings[at].client == client {
      holdings[at].until = max(holdings[at].until, until)
    }
  }

  /// The client lets go, or has asked to.
  mutating func released(by client: Int) { holdings.removeAll { $0.client == client } }
}
