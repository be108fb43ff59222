public import API
public import Basics

/// The alarms that members have raised. etcd: v3alarm `AlarmStore`.
public struct Alarms: Equatable, Sendable {
  /// etcdserverpb.AlarmType.
  public enum Kind: Int64, CaseIterable, Sendable {
    case noSpace = 1, corrupt = 2

    /// As etcd's clients name it.
    public var name: String {
      switch self {
      case .noSpace: "NOSPACE"
      case .corrupt: "CORRUPT"
      }
    }
  }

  /// One member's alarm; of `NodeID.none` when nobody knows whose it is.
  public struct Alarm: Hashable, Sendable {
    public var member: NodeID
    public var kind: Kind
  }

  /// By kind, then member.
  public private(set) var active: [Alarm] = []

  public init() {}

  /// Takes a row of the alarm bucket: its key is the encoded AlarmMember.
  public mutating func restore(row key: RawSpan) throws(DecodeError) {
    let numbers = try Numbers(key, in: Slice(start: 0, count: key.byteCount))
    guard let kind = Kind(rawValue: numbers.signed(2)) else { throw DecodeError(.refused, at: 0) }
    _ = insert(Alarm(member: NodeID(numbers[1]), kind: kind))
  }

  /// Whether any member has raised it.
  public func isActive(_ kind: Kind) -> Bool { active.contains { $0.kind == kind } }

  /// True when the alarm was not there before.
  mutating func insert(_ alarm: Alarm) -> Bool {
    guard !active.contains(alarm) else { return false }
    active.append(alarm)
    active.sort { ($0.kind.rawValue, $0.member) < ($1.kind.rawValue, $1.member) }
    return true
  }

  /// True when the alarm was there.
  mutating func remove(_ alarm: Alarm) -> Bool {
    guard let index = active.firstIndex(of: alarm) else { return false }
    active.remove(at: index)
    return true
  }

  /// An encoded AlarmMember.
  static func row(_ alarm: Alarm) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, alarm.member.rawValue)
    bytes.appendField(2, alarm.kind.rawValue)
    return bytes
  }

  /// The proposal that raises an alarm.
  public static func proposal(_ kind: Kind, of member: NodeID, id: UInt64) -> Proposal {
    var request: [UInt8] = []
    request.appendField(1, 1 as Int64)
    request.appendField(2, member.rawValue)
    request.appendField(3, kind.rawValue)
    return Proposal(.alarm, request.rawSpan, id: id)
  }

  /// As etcd prints an alarm into a status: `memberID:… alarm:NOSPACE `.
  public static func text(_ alarm: Alarm) -> String {
    alarm.member == .none
      ? "alarm:\(alarm.kind.name) "
      : "memberID:\(alarm.member.rawValue) alarm:\(alarm.kind.name) "
  }
}
