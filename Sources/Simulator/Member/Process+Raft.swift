internal import Basics
internal import Raft
internal import Replica
internal import Services

/// What Sources/Server/RaftThread.swift does.
extension Process {
  func turnRaft() {
    let inbox = raftInbox
    raftInbox.removeAll(keepingCapacity: true)
    for input in inbox { take(input) }
    retryProposals()
    answerQuestions()
    if now >= nextTick {
      core.tick()
      nextTick = now + world.options.tick
    }
    campaignIfAlone()
    var outputs = 0
    while core.hasOutput {
      outputs += 1
      guard outputs < 10_000 else {
        return world.violate("progress", "\(host.number) comes to no end with its output")
      }
      honour()
    }
    noteProgress()
    wake(.raft, at: host.trueTime(nextTick))
  }

  private func take(_ input: RaftInput) {
    switch input {
    case .message(let message): step(message)
    case .proposals(let proposals): for proposal in proposals { propose(proposal) }
    case .questions(let queries): questions.append((core.commit, queries))
    case .readIndex(let ticket):
      if world.plant != .readContextReused { nextContext += 1 }
      if core.readIndex(context: nextContext) { read = (nextContext, ticket) }
    case .written(let mark): core.appended(mark)
    case .applied(let index): core.applied(upTo: index)
    case .configurations(let applied): for change in applied { configure(change) }
    case .transfer(let target): core.transferLeadership(to: target)
    case .compact(let index): if index <= core.status.applied { core.compact(upTo: index) }
    case .snapshot(let snapshot, let store, let targets):
      for target in targets { send(snapshot, store, to: target) }
    case .reported(let id, let isDelivered): core.reportSnapshot(id, isDelivered: isDelivered)
    case .unreachable(let id): core.reportUnreachable(id)
    }
  }

  private func step(_ message: Message) {
    core.step(message)
  }

  /// Questions wait until all is applied that was committed when they came, and, on a leader,
  /// the first entry of its term.
  private func answerQuestions() {
    guard !questions.isEmpty else { return }
    if core.role == .leader, core.term(at: core.commit) != core.term { return }
    while let first = questions.first, first.index <= core.applied {
      questions.removeFirst()
      post(.queries(first.queries))
    }
  }

  /// A proposal that comes while there is no leader waits for one.
  private func propose(_ proposal: Proposal) {
    if waiting.isEmpty, attempt(proposal) { return }
    waiting.append((proposal, now + world.options.requestTime))
  }

  /// Tries again what waits, in order.
  private func retryProposals() {
    while let item = waiting.first {
      if item.deadline > now, !attempt(item.proposal) { return }
      waiting.removeFirst()
    }
  }

  /// False: not now.
  private func attempt(_ proposal: Proposal) -> Bool {
    let leading = world.plant == .leaseExpiredByFormerLeader ? nil : proposal.leading
    if let leading, core.role != .leader || core.term != leading {
      refuse(proposal, .notPrimary)
      return true
    }
    do throws(ProposeError) {
      try core.propose(kind: proposal.kind, data: proposal.data, leading: leading)
    } catch {
      switch error {
      case .noLeader, .transferring, .confChangeRefused: return false
      case .tooManyUncommitted: refuse(proposal, .tooMany)
      case .notMember, .malformedConfChange: refuse(proposal, .stopped)
      }
      return true
    }
    if world.plant == .proposalRepeated, world.random.chance(1, in: 50) {
      try? core.propose(kind: proposal.kind, data: proposal.data)
    }
    return true
  }

  private func refuse(_ proposal: Proposal, _ failure: Failure) {
    guard RequestIDs.loop(of: proposal.id, member: host.id) == 0 else { return }
    var batch = CompletionBatch()
    batch.append(proposal.id, failure: failure)
    post(.completions(batch))
  }

  private func configure(_ applied: ConfigurationApplied) {
    guard let change = applied.change else { return }
    do throws(ConfChangeError) {
      _ = try core.applyConfChange(change, at: applied.index)
    } catch {
      world.violate("configuration", "\(host.number) cannot apply a change: \(error)")
    }
  }

  private func campaignIfAlone() {
    guard core.role == .follower, core.leader == .none,
      core.confState.voters == [host.id], !core.confState.isJoint
    else { return }
    core.campaign()
  }

  private func send(_ snapshot: Snapshot, _ store: [UInt8], to target: NodeID) {
    guard snapshot.metadata.index + 1 >= core.firstIndex,
      let message = core.snapshotMessage(snapshot, to: target)
    else {
      core.reportSnapshot(target, isDelivered: false)
      return
    }
    world.note(
      "\(host.number) sends \(target.rawValue & 0xff) a snapshot \(snapshot.metadata.index)")
    world.send(Packet(message: message, store: store))
  }

  private func honour() {
    core.takeOutput(into: &output)
    world.checks.output(output, of: self)
    for message in output.messages { world.send(Packet(message: message, store: nil)) }
    if let mark = output.mark {
      var then = output.then
      var hardState = output.hardState
      if world.plant == .voteNotPersisted { hardState?.vote = .none }
      if world.plant == .sentBeforeSync {
        for message in then { world.send(Packet(message: message, store: nil)) }
        then = []
      }
      post(
        .append(
          WALBatch(
            entries: output.entries, hardState: hardState, mustSync: output.mustSync, mark: mark,
            snapshot: output.snapshot, then: then)))
      if world.plant == .acknowledgedBeforeSync { post(.written(mark)) }
    }
    if !output.snapshotsWanted.isEmpty { post(.snapshotWanted(output.snapshotsWanted)) }
    if let standing = output.standing { changed(standing) }
    if !output.committed.isEmpty { post(.committed(output.committed, commit: core.commit)) }
    for (context, index) in output.reads where context == read.context {
      post(.readIndex(ticket: read.ticket, index: index))
    }
  }

  private func changed(_ standing: Standing) {
    read = (0, 0)
    status.term = standing.term
    status.leader = standing.leader
    world.note(
      "\(host.number) is \(standing.role) in term \(standing.term.rawValue), follows "
        + "\(world.number(of: standing.leader))")
    world.checks.standing(standing, of: self)
    post(.standing(standing))
    post(LoopInput.wake)
    wake(.peers)
  }

  /// What a leader's services know of the others. etcd: `isLearnerReady`.
  private func noteProgress() {
    guard core.role == .leader else {
      if !status.progress.isEmpty { status.progress = [] }
      return
    }
    let seen = core.status
    let own = Double(seen.lastIndex.rawValue)
    status.progress = seen.progress.map { peer in
      (peer.id, Double(peer.match.rawValue) >= 0.9 * own)
    }
  }
}
