internal import API
internal import Basics
internal import MVCC
public import Membership
internal import Raft

extension Failure {
  init(_ error: MemberChangeError) {
    switch error {
    case .idRemoved, .idNotFound: self = .memberNotFound
    case .idExists: self = .memberExists
    case .peerURLExists: self = .peerURLExists
    case .notLearner: self = .memberNotLearner
    case .tooManyLearners: self = .tooManyLearners
    case .notEnoughStarted: self = .notEnoughStarted
    }
  }
}

extension Replica {
  /// Applies a configuration entry. etcd: `applyConfChange`.
  mutating func applyConfiguration(_ entry: Entry, isNew: Bool, _ outcome: inout Outcome) {
    guard let confChange = try? ConfChange(kind: entry.kind, data: entry.data),
      let change = try? MemberChange(confChange)
    else { preconditionFailure("the log holds a configuration change that cannot be read") }
    let id = confChange.id
    var refusal: Failure?
    do throws(MemberChangeError) { try cluster.validate(change) } catch {
      refusal = Failure(error)
    }
    guard refusal == nil, let next = try? configuration.applying(confChange) else {
      outcome.configurations.append(
        ConfigurationApplied(index: entry.index, change: nil, member: nil))
      complete(id, failure: refusal ?? .notEnoughStarted, &outcome)
      return
    }
    save(cluster.apply(change), isNew: isNew)
    configuration = next
    if isNew {
      store.putMeta(
        bucket: .meta, key: [UInt8]("confState"), value: configuration.json.encoded)
    }
    outcome.configurations.append(
      ConfigurationApplied(index: entry.index, change: confChange, member: change))
    outcome.membershipChanged = true
    if case .remove(config.member) = change { outcome.removedSelf = true }
    complete(id, response: response(to: change), &outcome)
  }

  private func response(to change: MemberChange) -> [UInt8] {
    var response: [UInt8] = []
    response.appendHeader(memberHeader)
    var listField = 2
    if case .add(let member) = change {
      response.appendField(2, member.message.rawSpan)
      listField = 3
    }
    for member in cluster.members {
      response.appendField(listField, member.message.rawSpan)
    }
    return response
  }

  private mutating func save(_ rows: [MemberRow], isNew: Bool) {
    guard isNew else { return }
    for row in rows {
      let bucket: Bucket =
        switch row.bucket {
        case .members: .members
        case .membersRemoved: .membersRemoved
        case .cluster: .cluster
        }
      if let value = row.value {
        store.putMeta(bucket: bucket, key: row.key, value: value)
      } else {
        store.removeMeta(bucket: bucket, key: row.key)
      }
    }
  }

  /// Applies a v2 request: the publishing of members and the cluster's version; others are
  /// without effect, as in a cluster whose v2 API is off.
  mutating func applyV2(
    _ message: Slice, _ bytes: RawSpan, isNew: Bool, _ outcome: inout Outcome
  ) {
    guard let request = try? V2Wire.decode(message, in: bytes) else {
      preconditionFailure("the log holds an entry that cannot be read")
    }
    let rows = cluster.apply(request)
    save(rows, isNew: isNew)
    if !rows.isEmpty { outcome.membershipChanged = true }
    complete(request.id, response: [], &outcome)
  }

  /// Carries out the requests that concern membership, which are applied even when the store has
  /// seen them. False when it is none of them.
  mutating func applyMembership(
    _ request: InternalRequest, _ bytes: RawSpan, id: UInt64, isNew: Bool,
    _ outcome: inout Outcome
  ) -> Bool {
    func text(_ slice: Slice) -> String {
      String(decoding: bytes.extracting(slice).copied(), as: UTF8.self)
    }
    switch request {
    case .v2(let message):
      applyV2(message, bytes, isNew: isNew, &outcome)
      return true
    case .clusterVersion(let version):
      if let version = ClusterVersion(text(version)) {
        save(cluster.setVersion(version), isNew: isNew)
      }
    case .memberAttributes(let member, let name, let clientURLs):
      save(
        cluster.setAttributes(member, name: text(name), clientURLs: clientURLs.map(text)),
        isNew: isNew)
    case .downgrade(let isEnabled, let target):
      let downgrade = Downgrade(isEnabled: isEnabled, target: isEnabled ? text(target) : "")
      save(cluster.setDowngrade(downgrade), isNew: isNew)
      var response: [UInt8] = []
      response.appendHeader(header)
      response.appendText(2, cluster.version?.text ?? "")
      complete(id, response: response, &outcome)
      outcome.membershipChanged = true
      return true
    default: return false
    }
    outcome.membershipChanged = true
    complete(id, response: [], &outcome)
    return true
  }
}

extension ConfState {
  /// The row of the meta bucket. etcd: `MustUnsafeSaveConfStateToBackend`.
  var json: JSON {
    func list(_ ids: [NodeID]) -> JSON { .array(ids.map { .integer($0.rawValue) }) }
    var fields: [JSON.Field] = []
    for (name, ids) in [
      ("voters", voters), ("learners", learners), ("voters_outgoing", votersOutgoing),
      ("learners_next", learnersNext),
    ] where !ids.isEmpty {
      fields.append(.init(name, list(ids)))
    }
    fields.append(.init("auto_leave", .bool(autoLeave)))
    return .object(fields)
  }
}

extension Membership.Member {
  /// etcdserverpb.Member.
  public var message: [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, id.rawValue)
    bytes.appendText(2, name)
    for url in peerURLs { bytes.appendField(3, [UInt8](url.utf8).rawSpan) }
    for url in clientURLs { bytes.appendField(4, [UInt8](url.utf8).rawSpan) }
    bytes.appendField(5, isLearner)
    return bytes
  }
}
