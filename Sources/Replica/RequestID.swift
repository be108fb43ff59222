public import Basics

/// Makes the IDs by which completions find their way back: 16 bits of the member, 44 that count
/// from the millisecond of the start in steps of 256, 4 for the io loop. An ID is not made twice
/// within a run, nor after a restart, unless more than 256 a millisecond were made before. etcd
/// counts likewise (pkg/idutil).
public struct RequestIDs: Sendable {
  /// How many loops can be told apart; the last number is the replica's own.
  public static let loopsMax = 15

  private let prefix: UInt64
  private let loop: UInt64
  private var count: UInt64

  /// `startMilliseconds`: the time of the start, any epoch; `loop`: 0 to 15.
  public init(member: NodeID, startMilliseconds: UInt64, loop: Int) {
    precondition(loop >= 0 && loop <= RequestIDs.loopsMax)
    prefix = RequestIDs.prefix(of: member)
    self.loop = UInt64(loop)
    count = startMilliseconds << 8 & RequestIDs.countMask
  }

  /// IDs of the same member and loop that come half the range behind, where nobody else is.
  public func distant() -> RequestIDs {
    var other = self
    other.count = (count &+ (RequestIDs.countMask / 2)) & RequestIDs.countMask
    return other
  }

  private static let countMask: UInt64 = 0xfff_ffff_ffff

  /// The next ID; never 0 for a member that has an ID.
  public mutating func next() -> UInt64 {
    count = (count &+ 1) & RequestIDs.countMask
    return prefix << 48 | count << 4 | loop
  }

  static func prefix(of member: NodeID) -> UInt64 { member.rawValue & 0xffff }

  /// The loop that made `id`; nil when another member did.
  public static func loop(of id: UInt64, member: NodeID) -> Int? {
    id != 0 && id >> 48 == prefix(of: member) ? Int(id & 15) : nil
  }
}
