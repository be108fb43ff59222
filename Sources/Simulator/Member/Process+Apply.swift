internal import API
internal import Basics
internal import MVCC
internal import Membership
internal import Raft
internal import Replica
internal import Services

/// The apply thread's own variables.
struct ApplyState {
  var nextTick: UInt64 = 0
  var dirtySince: UInt64?
  var snapshotIndex: LogIndex
  /// A snapshot waits for the store to hold everything up to it.
  var pendingSnapshot: Snapshot?
  /// Members that wait for a snapshot with the store's content.
  var snapshotsWanted: [NodeID] = []
  /// The snapshot that the frozen buffer completes.
  var frozen: Snapshot?
  var isLeader = false
  var hasApplied = false
  var isPublished = false
  var publishAgainAt: UInt64 = 0
  var publishedSince: LogIndex?
  var isVersionProposed = false
  var ids: RequestIDs
  // Of planted bugs: the configuration of the snapshot before, and what the store commits late.
  var configuration: ConfState?
  var lateIndex: WriteBatch?

  init(snapshotIndex: LogIndex, member: NodeID, startMilliseconds: UInt64) {
    self.snapshotIndex = snapshotIndex
    ids = RequestIDs(
      member: member, startMilliseconds: startMilliseconds, loop: RequestIDs.loopsMax
    ).distant()
  }
}

/// What Sources/Server/ApplyThread.swift does.
extension Process {
  static let applyTick: UInt64 = 100_000_000
  private static let publishRetry: UInt64 = 5_000_000_000

  func turnApply() {
    let now = now
    takeApplyInbox(now)
    guard host.process === self else { return }
    if now >= apply.nextTick {
      apply.nextTick = now + Self.applyTick
      replica.tick(now: now, into: &outcome)
    }
    work()
    publish(now)
    deliverOutcome()
    guard host.process === self else { return }
    commitIfDue(now)
    let isBusy = replica.isHashing || replica.isCompacting && hasRoom
    let commitAt = replica.store.isCommitting ? nil : apply.dirtySince
    let next = min(apply.nextTick, commitAt.map { $0 + world.options.batchDelay } ?? .max)
    wake(.apply, at: isBusy ? world.now + 10_000 : host.trueTime(next))
  }

  private var hasRoom: Bool {
    replica.store.bufferedOperations < 4 * world.options.batchOperationsMax
  }

  private func takeApplyInbox(_ now: UInt64) {
    var inbox = applyInbox
    applyInbox.removeAll(keepingCapacity: true)
    for case .queries(let queries) in inbox {
      for query in queries { replica.query(query, now: now, into: &outcome) }
    }
    inbox.removeAll { if case .queries = $0 { true } else { false } }
    for (place, input) in inbox.enumerated() {
      switch input {
      case .queries: break
      case .committed(let entries, let commit): apply(entries, commit: commit, now)
      case .standing(let standing):
        apply.isLeader = standing.role == .leader
        apply.isVersionProposed = false
        if apply.isLeader || world.plant != .leaseExpiredByFormerLeader {
          replica.roleChanged(leads: apply.isLeader ? standing.term : nil, now: now)
        }
      case .stored: stored()
      case .install(let snapshot):
        guard !replica.store.isCommitting else {
          // What came behind it waits with it.
          applyInbox = Array(inbox[place...]) + applyInbox
          if let at = applyInbox.lastIndex(where: { if case .stored = $0 { true } else { false } })
          {
            applyInbox.insert(applyInbox.remove(at: at), at: 0)
            wake(.apply)
          }
          return
        }
        install(snapshot)
        guard host.process === self else { return }
      case .snapshotWanted(let ids): apply.snapshotsWanted += ids
      }
    }
  }

  private func apply(_ entries: [Entry], commit: LogIndex, _ now: UInt64) {
    // Entries that a snapshot has covered meanwhile.
    let left = entries.drop { $0.index <= replica.appliedIndex }
    for entry in left {
      world.checks.willApply(entry, on: self)
      replica.apply([entry], now: now, into: &outcome)
      world.checks.didApply(entry, on: self)
    }
    apply.hasApplied = true
    status.commitIndex = max(status.commitIndex, commit)
    if apply.dirtySince == nil { apply.dirtySince = now }
  }

  /// Bounded steps of what runs beside the traffic.
  private func work() {
    if replica.isCompacting, hasRoom {
      _ = replica.compactStep(keysMax: world.options.compactionKeysPerStep, into: &outcome)
      if apply.dirtySince == nil { apply.dirtySince = now }
    }
    if replica.isHashing { replica.hashStep(rowsMax: 50, into: &outcome) }
  }

  func updateStatus() {
    status.appliedIndex = replica.appliedIndex
    status.revision = replica.store.currentRevision
    status.compactRevision = replica.store.compactRevision
    status.alarms = replica.alarms.active
    status.isLearner = replica.cluster.member(host.id)?.isLearner ?? false
  }

  /// Hands on what the batch left to do.
  private func deliverOutcome() {
    updateStatus()
    let hasEvents = !outcome.events.isEmpty
    if hasEvents, world.plant != .watchEventsLost || !world.random.chance(1, in: 100) {
      post(.events(outcome.events))
    }
    if !outcome.completions[0].isEmpty {
      post(.completions(outcome.completions[0]))
    } else if !hasEvents {
      post(LoopInput.wake)
    }
    if !outcome.completions[Self.peerLoop].isEmpty {
      post(PeerInput.answers(outcome.completions[Self.peerLoop]))
    }
    if !outcome.proposals.isEmpty { post(.proposals(outcome.proposals)) }
    if !outcome.configurations.isEmpty { post(.configurations(outcome.configurations)) }
    if apply.hasApplied { post(.applied(replica.appliedIndex)) }
    apply.hasApplied = false
    let ids = outcome.defragmentations
    let isRemoved = outcome.removedSelf
    outcome.removeAll()
    for id in ids { replica.defragmented(id, failure: nil, into: &outcome) }
    if isRemoved { world.removed(host) }
  }

  // MARK: Publication

  private func publish(_ now: UInt64) {
    guard status.leader != .none else { return }
    if !apply.isPublished, let known = replica.cluster.member(host.id) {
      let member = host.member
      if let since = apply.publishedSince, replica.appliedIndex > since,
        known.name == member.name, known.clientURLs == member.clientURLs
      {
        apply.isPublished = true
      } else if now >= apply.publishAgainAt {
        apply.publishAgainAt = now + Self.publishRetry
        apply.publishedSince = replica.appliedIndex
        propose(V2Request.publish(member, id: apply.ids.next()))
      }
    }
    let version = ClusterVersion(major: 3, minor: 5, patch: 0)
    if apply.isLeader, !apply.isVersionProposed, apply.isPublished,
      replica.cluster.version != version
    {
      apply.isVersionProposed = true
      propose(V2Request.version(version, id: apply.ids.next()))
    }
  }

  private func propose(_ request: V2Request) {
    outcome.proposals.append(Proposal(id: request.id, data: V2Wire.encode(request)))
  }
}
