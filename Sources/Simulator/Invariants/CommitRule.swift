internal import Basics
internal import Raft

/// A leader counts a quorum for entries of its own term only; those before are committed with
/// them. Raft thesis §3.6.2, figure 3.7.
enum CommitRule {
  /// `before`: the commit index that the process had given out last, as leader of the same term.
  static func problem(_ core: borrowing Core, before: LogIndex) -> String? {
    guard core.role == .leader, core.commit > before, core.term(at: core.commit) != core.term
    else { return nil }
    return "the leader of term \(core.term.rawValue) counts a quorum for entry "
      + "\(core.commit.rawValue) of an older term"
  }
}
