internal import API
public import Auth
public import Basics
internal import Lease
internal import MVCC
public import Membership

/// A question that the apply thread answers without the log.
public struct Query: Sendable {
  public enum Kind: Sendable {
    /// On the leader only: prolongs a lease. Answer: LeaseKeepAliveResponse.
    case keepAlive(LeaseID)
    case timeToLive(LeaseID, withKeys: Bool)
    case leases
    /// Whether who asks may prolong a lease, or see its keys. Any member knows; answered with
    /// nothing, or refused.
    case leaseAccess(LeaseID, writes: Bool)
    case members
    /// A change of the configuration, to be proposed when it keeps a quorum.
    /// `isHealthy`: whether enough members are reachable for it, or the learner is ready.
    case change(MemberChange, isHealthy: Bool)
    case moveLeader(to: NodeID)
    /// DowngradeRequest, by its action, with the version to go back to.
    case validateDowngrade(String)
    case enableDowngrade(String)
    case cancelDowngrade
    case hash
    case hashKV(revision: Int64)
    case defragment
  }

  public var id: UInt64
  public var kind: Kind
  /// Who asks.
  public var who: Principal

  /// Whether all that is committed has to be applied first: a lease may have been granted, or a
  /// learner added, through another member.
  public var waitsForCommitted: Bool {
    switch kind {
    case .keepAlive, .timeToLive, .change(.promote, isHealthy: _): true
    default: false
    }
  }

  public init(id: UInt64, kind: Kind, by who: Principal = .none) {
    self.id = id
    self.kind = kind
    self.who = who
  }
}

extension Replica {
  /// Answers a question at `now`. Changes no state but leases' expiry.
  public mutating func query(_ query: Query, now: UInt64, into outcome: inout Outcome) {
    do throws(Failure) {
      if let response = try answer(query, now: now, &outcome) {
        complete(query.id, response: response, &outcome)
      }
    } catch {
      complete(query.id, failure: error, &outcome)
    }
  }

  /// The response, or nil when it comes later.
  private mutating func answer(
    _ query: Query, now: UInt64, _ outcome: inout Outcome
  ) throws(Failure) -> [UInt8]? {
    var response: [UInt8] = []
    switch query.kind {
    case .keepAlive(let lease): return try keepAlive(lease, id: query.id, now: now, &outcome)
    case .timeToLive(let lease, let withKeys):
      return timeToLive(lease, withKeys: withKeys, now: now)
    case .leaseAccess(let lease, let writes):
      if writes {
        try checkRenewal(of: lease, by: query.who)
      } else {
        try checkListing(of: [lease], by: query.who)
      }
      return []
    case .leases:
      try checkListing(of: lessor.leases, by: query.who)
      response.appendHeader(header)
      for lease in lessor.leases {
        let mark = response.beginField(2, expecting: 0)
        response.appendField(1, lease.rawValue)
        response.endField(mark)
      }
      return response
    case .members:
      response.appendHeader(memberHeader)
      for member in cluster.members {
        response.appendField(2, member.message.rawSpan)
      }
      return response
    case .change(let change, let isHealthy):
      if case .promote(let id) = change, !isHealthy {
        throw cluster.member(id) == nil ? .memberNotFound : .learnerNotReady
      }
      if config.strictReconfiguration {
        do { try cluster.checkQuorum(change) } catch { throw Failure(error) }
        guard isHealthy else { throw .unhealthy }
      }
      outcome.proposals.append(Proposal(id: query.id, change: change))
      return nil
    case .moveLeader(let target):
      guard let member = cluster.member(target), !member.isLearner else { throw .badTransferee }
      return []
    case .validateDowngrade(let target):
      try validateDowngrade(target)
      response.appendHeader(header)
      response.appendText(2, cluster.version?.text ?? "")
      return response
    case .enableDowngrade(let target):
      let version = try validateDowngrade(target)
      propose(Downgrade(isEnabled: true, target: version.text), id: query.id, &outcome)
      return nil
    case .cancelDowngrade:
      guard cluster.downgrade?.isEnabled ?? false else { throw .noDowngrade }
      propose(Downgrade(isEnabled: false, target: ""), id: query.id, &outcome)
      return nil
    case .hash:
      try hash(query.id, .store)
      return nil
    case .hashKV(let revision):
      if let remembered = rememberedHash(revision) { return remembered }
      try hash(query.id, .revision(revision))
      return nil
    case .defragment:
      outcome.defragmentations.append(query.id)
      return nil
    }
  }

  /// Nil while a checkpoint has to be taken back; its entry's response is then this one's.
  private mutating func keepAlive(
    _ lease: LeaseID, id: UInt64, now: UInt64, _ outcome: inout Outcome
  ) throws(Failure) -> [UInt8]? {
    var response: [UInt8] = []
    response.appendHeader(header)
    response.appendField(2, lease.rawValue)
    do throws(LeaseError) {
      let renewed = try lessor.renew(lease, now: now)
      tally.leasesRenewed += 1
      if renewed.resetsCheckpoint {
        propose([RemainingTime(lease: lease, remaining: 0)], id: id, &outcome)
        return nil
      }
      response.appendField(3, renewed.ttl)
    } catch {
      // A lease that is gone is answered with no TTL rather than refused.
      guard error == .notFound else { throw Failure(error) }
    }
    return response
  }

  private func timeToLive(_ lease: LeaseID, withKeys: Bool, now: UInt64) -> [UInt8] {
    var response: [UInt8] = []
    response.appendHeader(header)
    response.appendField(2, lease.rawValue)
    guard let found = lessor.status(lease, now: now) else {
      response.appendField(3, -1 as Int64)
      return response
    }
    response.appendField(3, found.remaining)
    response.appendField(4, found.granted)
    if withKeys { for key in found.keys { response.appendField(5, key.rawSpan) } }
    return response
  }

  /// The version that a downgrade to `target` would go to.
  @discardableResult
  private func validateDowngrade(_ target: String) throws(Failure) -> ClusterVersion {
    guard let wanted = ClusterVersion(target) ?? ClusterVersion(target + ".0") else {
      throw .downgradeFormat
    }
    guard let version = cluster.version else { throw .clusterVersionUnavailable }
    guard wanted.major == version.major, version.minor > 0, wanted.minor == version.minor - 1
    else { throw .downgradeTarget }
    guard !(cluster.downgrade?.isEnabled ?? false) else { throw .downgradeInProgress }
    return wanted.cluster
  }

  private func propose(_ downgrade: Downgrade, id: UInt64, _ outcome: inout Outcome) {
    var request: [UInt8] = []
    request.appendField(1, downgrade.isEnabled)
    request.appendText(2, downgrade.target)
    outcome.proposals.append(Proposal(.downgrade, request.rawSpan, id: id))
  }

  /// Gives up the hashes and compactions whose callers wait: another store takes this one's place.
  /// The callers, for `failed`.
  public mutating func abandonLongWork() -> [UInt64] {
    let ids = hashJobs.map(\.id).filter { $0 != 0 } + physicalCompactions
    hashJobs.removeAll()
    physicalCompactions.removeAll()
    return ids
  }

  /// Tells callers that they get no answer, and may ask again.
  public func failed(_ ids: [UInt64], into outcome: inout Outcome) {
    for id in ids { complete(id, failure: .timedOut, &outcome) }
  }

  /// Answers a Defragment; `failure` is the storage engine's when it did not succeed.
  public func defragmented(_ id: UInt64, failure: Failure?, into outcome: inout Outcome) {
    if let failure {
      complete(id, failure: failure, &outcome)
    } else {
      complete(id, response: [], &outcome)
    }
  }
}
