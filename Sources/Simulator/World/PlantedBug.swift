@_spi(Simulation) internal import Raft

/// A bug put into the members, to see that it is found. Each stands for one that some system had.
public enum PlantedBug: String, CaseIterable, Sendable {
  // Of the shell around the cores.
  case acknowledgedBeforeSync
  case sentBeforeSync
  case voteNotPersisted
  case syncFailureIgnored
  case readContextReused
  case readWithoutIndex
  case proposalRepeated
  case leaseExpiredByFormerLeader
  case consistentIndexApart
  case configurationLostInSnapshot
  case watchersNotToldOfSnapshot
  case watchEventsLost
  // Of Raft.
  case commitOfOlderTerm
  case voteForStaleLog
  case voteTwice
  case appendAnywhere
  case readUnconfirmed
  case readEarly
  case heartbeatPastMatch
  case snapshotDropsEntries
}

extension Config.Sabotage {
  init(_ plant: PlantedBug?) {
    switch plant {
    case .commitOfOlderTerm: self = .commitsOlderTerms
    case .voteForStaleLog: self = .votesForStaleLogs
    case .voteTwice: self = .votesTwice
    case .appendAnywhere: self = .appendsAnywhere
    case .readUnconfirmed: self = .readsUnconfirmed
    case .readEarly: self = .readsEarly
    case .heartbeatPastMatch: self = .heartbeatsPastMatch
    case .snapshotDropsEntries: self = .snapshotsDropEntries
    default: self = []
    }
  }
}
