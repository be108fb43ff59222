public import Basics

extension Core {
  /// Takes a membership change into force; called when its entry, at `index`, is applied, before
  /// `applied(upTo:)`. Throws, alike on every member, when the change cannot be; the
  /// configuration then stays, as it does for an entry that a snapshot has overtaken meanwhile.
  /// Returns the configuration from here on.
  public mutating func applyConfChange(
    _ change: ConfChange, at index: LogIndex
  ) throws(ConfChangeError) -> ConfState {
    guard index > applied else { return confState }
    confState = try confState.applying(change)
    guard role == .leader else { return confState }
    // One that is a voter no longer goes on leading until the shell stops it, and takes no
    // proposals: those who stay may not have heard that the change is committed, and of two
    // members the other could never find out by itself. Thesis §4.2.2; etcd: `switchToConfig`.
    alignProgress()
    advanceCommit()
    releaseReads()
    if !confState.isVoter(transferTarget) { transferTarget = .none }
    return confState
  }

  /// Gives every member of the configuration a progress, and nobody else.
  mutating func alignProgress() {
    let members = confState.members
    progress.removeAll { !members.contains($0.id) }
    for id in members where position(id) == nil {
      let isSelf = id == config.id
      let inflights = Inflights(
        countMax: config.inflightCountMax, bytesMax: config.inflightBytesMax)
      // Counted as active at first: it had no time yet to answer.
      let new = Progress(
        id: id, isLearner: false, match: isSelf ? log.stable : .zero, next: log.lastIndex + 1,
        isRecentlyActive: true, inflights: inflights)
      progress.insert(new, at: progress.firstIndex { $0.id > id } ?? progress.count)
    }
    for index in progress.indices {
      progress[index].isLearner = confState.learners.contains(progress[index].id)
    }
  }

  /// Whether a change may be proposed: one at a time, and only what fits. Thesis §4.1.
  func check(kind: EntryKind, data: [UInt8]) throws(ProposeError) {
    let change: ConfChange
    do {
      change = try ConfChange(kind: kind, data: data)
    } catch {
      throw .malformedConfChange
    }
    guard pendingConfIndex <= applied, confState.isJoint == change.leavesJoint else {
      throw .confChangeRefused
    }
  }

  /// Proposes the end of a joint configuration that is to end by itself. Thesis §4.3.
  mutating func leaveJointIfDue(previous: LogIndex) {
    guard role == .leader, confState.autoLeave, previous <= pendingConfIndex,
      applied >= pendingConfIndex
    else { return }
    append(kind: .confChangeV2, data: [])
    pendingConfIndex = log.lastIndex
  }
}
