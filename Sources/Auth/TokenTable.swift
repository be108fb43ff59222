internal import Basics

/// Simple tokens that this member has given, each for a user and a time. etcd: `tokenSimple`.
///
/// They are in memory only: after a restart clients get new ones. Times are monotonic
/// nanoseconds.
public struct TokenTable: Sendable {
  /// How many live at once; a further one takes the place of one that is nearest to its end.
  public static let countMax = 1 << 18
  /// How much longer than asked a token lives: uses of it are reported with some delay.
  private static let grace: UInt64 = 1_000_000_000

  private struct Entry {
    var token: [UInt8]
    var user: AuthName
    var expiry: UInt64
  }

  private let lifetime: UInt64
  private let countMax: Int
  private var entries: [Entry] = []
  private var places: [[UInt8]: Int] = [:]

  /// `lifetime` in nanoseconds, from the last use.
  public init(lifetime: UInt64, countMax: Int = TokenTable.countMax) {
    precondition(countMax > 0)
    self.lifetime = lifetime
    self.countMax = countMax
  }

  public var count: Int { entries.count }

  /// `prefix.index`: the token that the log entry at `index` gives. etcd: `assign`.
  public static func token(prefix: [UInt8], index: UInt64) -> [UInt8] {
    prefix + [0x2e] + [UInt8](String(index).utf8)
  }

  /// The entry that gave the token; nil when it is no token. etcd: `isValidSimpleToken`.
  public static func index(of token: [UInt8]) -> UInt64? {
    let parts = token.split(separator: 0x2e, maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[1].isEmpty else { return nil }
    var index: UInt64 = 0
    for digit in parts[1] {
      guard digit >= 0x30, digit <= 0x39 else { return nil }
      let (scaled, isTooLarge) = index.multipliedReportingOverflow(by: 10)
      let (sum, overflows) = scaled.addingReportingOverflow(UInt64(digit - 0x30))
      guard !isTooLarge, !overflows else { return nil }
      index = sum
    }
    return index
  }

  /// Gives a user a token; its time begins at `now`.
  public mutating func assign(_ token: [UInt8], to user: AuthName, now: UInt64) {
    if let place = places[token] { remove(at: place) }
    if entries.count >= countMax { evict() }
    places[token] = entries.count
    entries.append(Entry(token: token, user: user, expiry: expiry(now)))
  }

  /// Whose token it is; nil when it was not given here, or its time is up.
  public func user(of token: [UInt8]) -> AuthName? { places[token].map { entries[$0].user } }

  /// A token was used: its time starts anew.
  public mutating func touch(_ token: [UInt8], now: UInt64) {
    guard let place = places[token] else { return }
    entries[place].expiry = expiry(now)
  }

  /// Ends all tokens of a user: its password has changed, or it is gone.
  public mutating func removeAll(of user: AuthName) { removeAll { $0.user == user } }

  public mutating func removeAll() {
    entries.removeAll()
    places.removeAll()
  }

  /// Ends the tokens whose time is up. Looks at each: call it once a second.
  public mutating func expire(now: UInt64) { removeAll { $0.expiry <= now } }

  private func expiry(_ now: UInt64) -> UInt64 {
    let (sum, overflows) = now.addingReportingOverflow(lifetime)
    return overflows || sum > .max - Self.grace ? .max : sum + Self.grace
  }

  private mutating func removeAll(where isOver: (Entry) -> Bool) {
    var place = 0
    while place < entries.count {
      if isOver(entries[place]) { remove(at: place) } else { place += 1 }
    }
  }

  private mutating func remove(at place: Int) {
    places[entries[place].token] = nil
    let last = entries.removeLast()
    guard place < entries.count else { return }
    entries[place] = last
    places[last.token] = place
  }

  private mutating func evict() {
    var nearest = 0
    for place in entries.indices where entries[place].expiry < entries[nearest].expiry {
      nearest = place
    }
    remove(at: nearest)
  }
}
