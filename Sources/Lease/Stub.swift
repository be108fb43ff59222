public import Basics
public enum LeaseError: Error, Equatable { case notFound, exists, tooLarge, notPrimary }
public struct Lessor: ~Copyable {
  struct L { var id: LeaseID; var ttl: Int64; var remaining: Int64; var expiry: UInt64; var keys: [[UInt8]] }
  var all: [L] = []
  var primary = false
  let minTTL: Int64
  public init(minTTL: Int64) { self.minTTL = minTTL }
  public mutating func grant(_ id: LeaseID, ttl: Int64, now: UInt64) throws(LeaseError) -> Int64 {
    if id == .none { throw .notFound }
    if ttl > 9_000_000_000 { throw .tooLarge }
    if all.contains(where: { $0.id == id }) { throw .exists }
    let t = max(ttl, minTTL)
    all.append(L(id: id, ttl: t, remaining: 0, expiry: now + UInt64(t) * 1_000_000_000, keys: []))
    return t
  }
  public func exists(_ id: LeaseID) -> Bool { all.contains { $0.id == id } }
  public mutating func revoke(_ id: LeaseID) throws(LeaseError) -> [[UInt8]] {
    guard let i = all.firstIndex(where: { $0.id == id }) else { throw .notFound }
    let l = all.remove(at: i)
    return l.keys.sorted { $0.lexicographicallyPrecedes($1) }
  }
  public mutating func renew(_ id: LeaseID, now: UInt64) throws(LeaseError) -> Int64 {
    if !primary { throw .notPrimary }
    guard let i = all.firstIndex(where: { $0.id == id }) else { throw .notFound }
    all[i].expiry = now + UInt64(all[i].ttl) * 1_000_000_000
    return all[i].ttl
  }
  public mutating func attach(_ key: RawSpan, to id: LeaseID) { if let i = all.firstIndex(where: { $0.id == id }) { all[i].keys.append(key.copied()) } }
  public mutating func detach(_ key: RawSpan) { let k = key.copied(); for i in all.indices { all[i].keys.removeAll { $0 == k } } }
  public func timeToLive(_ id: LeaseID, now: UInt64) -> (granted: Int64, remaining: Int64, keys: [[UInt8]])? {
    guard let l = all.first(where: { $0.id == id }) else { return nil }
    return (l.ttl, now >= l.expiry ? 0 : Int64((l.expiry - now) / 1_000_000_000), l.keys)
  }
  public var leases: [LeaseID] { all.sorted { $0.expiry < $1.expiry }.map(\.id) }
  public mutating func expired(now: UInt64, limit: Int) -> [LeaseID] { primary ? all.filter { $0.expiry <= now }.map(\.id) : [] }
  public mutating func promote(extend: UInt64, now: UInt64) { primary = true; for i in all.indices { all[i].expiry = now + UInt64(all[i].ttl) * 1_000_000_000 + extend } }
  public mutating func restore(_ id: LeaseID, ttl: Int64, remaining: Int64) { all.append(L(id: id, ttl: ttl, remaining: remaining, expiry: .max, keys: [])) }
  public mutating func demote() { primary = false }
  public mutating func checkpoint(_ id: LeaseID, remaining: Int64) { if let i = all.firstIndex(where: { $0.id == id }) { all[i].remaining = remaining } }
}
