/// A bug put into the shell, to see that it is found. Each stands for one that some system had.
public enum PlantedBug: String, CaseIterable, Sendable {
  case acknowledgedBeforeSync
  case sentBeforeSync
  case voteNotPersisted
  case readContextReused
  case readWithoutIndex
  case proposalRepeated
  case leaseExpiredByFormerLeader
}
