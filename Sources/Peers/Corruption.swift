public import Basics

/// Judges whose data is damaged, from the hashes of all members. Pure: the same answers give the
/// same verdict.
///
/// What counts as a difference is etcd's rule. Who is named is decided by the majority, as etcd
/// 3.6 does for compactions; etcd 3.5 names nobody. etcd: etcdserver/corrupt.go.
public enum Corruption {
  public struct Answer: Equatable, Sendable {
    public var member: NodeID
    public var answer: HashAnswer

    public init(_ member: NodeID, _ answer: HashAnswer) {
      self.member = member
      self.answer = answer
    }
  }

  /// What does not fit together.
  public enum Finding: Equatable, Sendable {
    /// The own hash is another than a moment ago, at the same revision.
    case changed
    /// A member is at a revision that its leader has not reached.
    case ahead(NodeID, revision: Int64)
    /// A member has compacted what its leader has not.
    case compactedAhead(NodeID, revision: Int64)
    /// A member's hash is not the leader's.
    case differs(NodeID, hash: UInt32)
  }

  public struct Verdict: Equatable, Sendable {
    /// Whom the alarms name, in order of their IDs; `NodeID.none`: nobody knows whose data it is.
    public var accused: [NodeID] = []
    public var findings: [Finding] = []
    /// How many of the others could be compared with.
    public var comparedCount = 0
  }

  /// The leader's look at the newest revision. `before` was taken first, then the others'
  /// answers at its revision came, then `after` was taken, with all that was committed meanwhile.
  public static func atNewest(
    own: NodeID, before: StoreHash, after: StoreHash, answers: [Answer]
  ) -> Verdict {
    var verdict = Verdict()
    if before.revision == after.revision, before.compactRevision == after.compactRevision,
      before.hash != after.hash
    {
      verdict.findings.append(.changed)
      verdict.accused.append(own)
    }
    for each in answers {
      guard case .hash(let hash, let current) = each.answer else { continue }
      if current > after.revision {
        verdict.findings.append(.ahead(each.member, revision: current))
        verdict.accused.append(each.member)
      }
      if hash.compactRevision > after.compactRevision {
        verdict.findings.append(.compactedAhead(each.member, revision: hash.compactRevision))
        verdict.accused.append(each.member)
      }
    }
    compare(own, before, answers, &verdict)
    return verdict
  }

  /// The leader's look at what a compaction found.
  public static func atCompaction(
    own: NodeID, hash: StoreHash, answers: [Answer]
  ) -> Verdict {
    var verdict = Verdict()
    compare(own, hash, answers, &verdict)
    return verdict
  }

  /// The members that have another hash than a member that starts, over the same history.
  public static func atStart(
    hash: StoreHash, answers: [Answer]
  ) -> [(member: NodeID, hash: UInt32)] {
    answers.compactMap { each in
      guard case .hash(let other, _) = each.answer,
        other.compactRevision == hash.compactRevision, other.hash != hash.hash
      else { return nil }
      return (each.member, other.hash)
    }
  }

  /// Holds the others' hashes against the leader's. Where a majority of all members has one hash,
  /// those that have another are accused.
  private static func compare(
    _ own: NodeID, _ hash: StoreHash, _ answers: [Answer], _ verdict: inout Verdict
  ) {
    var camps = [(hash: hash.hash, members: [own])]
    for each in answers {
      guard case .hash(let other, _) = each.answer,
        other.compactRevision == hash.compactRevision
      else { continue }
      verdict.comparedCount += 1
      if other.hash != hash.hash {
        verdict.findings.append(.differs(each.member, hash: other.hash))
      }
      if let place = camps.firstIndex(where: { $0.hash == other.hash }) {
        camps[place].members.append(each.member)
      } else {
        camps.append((other.hash, [each.member]))
      }
    }
    if camps.count > 1 {
      let quorum = (answers.count + 1) / 2 + 1
      if let majority = camps.firstIndex(where: { $0.members.count >= quorum }) {
        camps.remove(at: majority)
        verdict.accused += camps.flatMap(\.members)
      } else {
        verdict.accused.append(.none)
      }
    }
    var named: [NodeID] = []
    for member in verdict.accused.sorted() where named.last != member { named.append(member) }
    verdict.accused = named
  }
}
