public import API
internal import Basics
internal import MVCC

extension Replica {
  /// Carries out an AlarmRequest {action=1, memberID=2, alarm=3} and adds the AlarmResponse.
  mutating func apply(
    alarm numbers: Numbers, into response: inout [UInt8], _ outcome: inout Outcome
  ) {
    response.appendHeader(header)
    let kind = Alarms.Kind(rawValue: numbers.signed(3))
    let member = NodeID(numbers[2])
    switch numbers[1] {
    case 0:
      guard kind != nil || numbers[3] == 0 else { return }
      for alarm in alarms.active where kind == nil || alarm.kind == kind {
        response.appendField(2, Alarms.row(alarm).rawSpan)
      }
    case 1:
      guard let kind else { return }
      let alarm = Alarms.Alarm(member: member, kind: kind)
      if alarms.insert(alarm) {
        store.putMeta(bucket: .alarm, key: Alarms.row(alarm), value: [])
        outcome.membershipChanged = true
      }
      if kind == .noSpace { noSpaceProposed = false }
      response.appendField(2, Alarms.row(alarm).rawSpan)
    case 2:
      guard let kind else { return }
      let alarm = Alarms.Alarm(member: member, kind: kind)
      guard alarms.remove(alarm) else { return }
      store.removeMeta(bucket: .alarm, key: Alarms.row(alarm))
      outcome.membershipChanged = true
      response.appendField(2, Alarms.row(alarm).rawSpan)
    default: break
    }
  }

  /// Refuses what the active alarms forbid. etcd: `applierV3Corrupt`, `applierV3Capped`.
  func checkAlarms(_ request: borrowing InternalRequest) throws(Failure) {
    guard !alarms.active.isEmpty else { return }
    let isCorrupt = alarms.isActive(.corrupt)
    let isFull = alarms.isActive(.noSpace)
    switch request {
    case .put, .leaseGrant:
      if isCorrupt { throw .corrupt }
      if isFull { throw .noSpace }
    case .txn(let txn):
      if isCorrupt { throw .corrupt }
      if isFull, txn.cost > 0 { throw .noSpace }
    case .range, .deleteRange, .compaction, .leaseRevoke:
      if isCorrupt { throw .corrupt }
    default: break
    }
  }

  /// Whether the backend has room for what the request adds. The answer is a refusal even so
  /// when it has not, though the request was carried out: every member has to carry out the same.
  func hasRoom(for request: borrowing InternalRequest) -> Bool {
    let cost: Int
    switch request {
    case .put(let put): cost = put.cost
    case .txn(let txn): cost = txn.cost
    case .leaseGrant: cost = Quota.leaseBytes
    default: return true
    }
    return Quota.hasRoom(for: cost, used: backendBytes, quota: config.quotaBytes)
  }
}

/// What requests are reckoned to add to the backend. etcd: etcdserver/quota.go.
public enum Quota {
  static let leaseBytes = 64
  static let keyBytes = 256
  /// What etcd takes when no quota is set.
  public static let defaultBytes: Int64 = 2 << 30

  /// `quota` 0 takes the default, below 0 there is no limit. Sizes in bytes.
  public static func hasRoom(for cost: Int, used: Int, quota: Int64) -> Bool {
    guard quota >= 0, cost > 0 else { return true }
    return Int64(used) + Int64(cost) < (quota == 0 ? defaultBytes : quota)
  }

  /// The cost of a lease.
  public static var leaseCost: Int { leaseBytes }
}

extension PutRequestView {
  public var cost: Int { Quota.keyBytes + Int(key.count) + Int(value.count) }
}

extension Txn {
  /// The dearer branch, without nested transactions, as etcd reckons.
  public var cost: Int {
    func cost(_ ops: [Txn.Op]) -> Int {
      ops.reduce(0) { if case .put(let put) = $1 { $0 + put.cost } else { $0 } }
    }
    return max(cost(success), cost(failure))
  }
}
