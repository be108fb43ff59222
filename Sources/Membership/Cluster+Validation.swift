internal import Basics

/// Why a change of the configuration is refused.
public enum MemberChangeError: Error, Equatable, Sendable {
  case idRemoved, idExists, idNotFound, peerURLExists, notLearner, tooManyLearners
  /// The change would leave fewer started members than a quorum.
  case notEnoughStarted
}

extension Cluster {
  /// How many learners a cluster may have.
  public static let learnersMax = 1

  /// Whether `change` may be carried out on the members as they are now; asked again when the
  /// entry is applied. etcd: `ValidateConfigurationChange`.
  public func validate(_ change: MemberChange) throws(MemberChangeError) {
    guard !isRemoved(change.node) else { throw .idRemoved }
    switch change {
    case .add(let member):
      guard self.member(member.id) == nil else { throw .idExists }
      try refuseKnownURLs(of: member)
      if member.isLearner, members.count(where: \.isLearner) >= Cluster.learnersMax {
        throw .tooManyLearners
      }
    case .promote(let id):
      guard let member = member(id) else { throw .idNotFound }
      guard member.isLearner else { throw .notLearner }
    case .remove(let id):
      guard member(id) != nil else { throw .idNotFound }
    case .update(let member):
      guard self.member(member.id) != nil else { throw .idNotFound }
      try refuseKnownURLs(of: member)
    }
  }

  private func refuseKnownURLs(of member: Member) throws(MemberChangeError) {
    for other in members where other.id != member.id {
      for url in member.peerURLs where other.peerURLs.contains(url) { throw .peerURLExists }
    }
  }

  /// Whether enough members have started for `change` to keep a quorum: the part of
  /// `--strict-reconfig-check` that membership alone can answer.
  public func checkQuorum(_ change: MemberChange) throws(MemberChangeError) {
    let started = voters.count(where: \.isStarted)
    switch change {
    case .add(let member):
      guard !member.isLearner else { return }
      // One started member may always be joined by a second: that is how data is restored.
      if started == 1, voters.count == 1 { return }
      guard started >= (voters.count + 1) / 2 + 1 else { throw .notEnoughStarted }
    case .promote:
      guard started + 1 >= (voters.count + 1) / 2 + 1 else { throw .notEnoughStarted }
    case .remove(let id):
      if let member = member(id), member.isLearner { return }
      let others = voters.filter { $0.id != id }
      guard others.count(where: \.isStarted) >= others.count / 2 + 1 else {
        throw .notEnoughStarted
      }
    case .update: return
    }
  }
}
