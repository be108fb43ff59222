internal import Basics
internal import Raft

/// What is said is durable here, and what is acknowledged on a quorum. Raft thesis §3.8;
/// etcd raft: doc.go, "usage" step 1.
enum Durability {
  /// Whether a message claims what a crash could undo.
  static func problem(_ message: Message, _ host: Host) -> String? {
    let state = host.durable.hardState
    // Of a term that is over nobody makes use: its entries may be gone already.
    guard host.process.map({ $0.core.term == message.term }) ?? false else { return nil }
    switch message.body {
    case .voteResponse(isRejected: false):
      guard state.term > message.term || state.term == message.term && state.vote == message.to
      else { return "\(host.number) grants a vote that is not durable" }
    case .vote(let ballot):
      guard state.term > message.term || state.term == message.term && state.vote == message.from
      else { return "\(host.number) asks for votes before its own is durable" }
      guard host.durable.last >= ballot.lastIndex || host.process?.core.role != .candidate else {
        return "\(host.number) stands with entries that are not durable"
      }
    case .appendResponse(let response):
      guard response.rejection != nil || host.durable.last >= response.index else {
        return "\(host.number) acknowledges entry \(response.index.rawValue), durable are "
          + "\(host.durable.last.rawValue)"
      }
    default: break
    }
    return nil
  }

  /// Keeps in mind what a leader was told to be here.
  static func note(_ message: Message, _ host: Host) {
    guard case .appendResponse(let response) = message.body, response.rejection == nil else {
      return
    }
    let known = host.acknowledged
    let index = message.term == known.term ? max(known.index, response.index) : response.index
    if message.term >= known.term { host.acknowledged = (message.term, index) }
  }

  /// A leader counts on what it was told of for all of its term: the log stays as long. Thesis §3.5
  /// (Leader Append-Only); etcd raft: `restore`, which keeps a log that has what a snapshot has.
  static func problem(acknowledged process: Process) -> String? {
    let (term, index) = process.host.acknowledged
    guard process.core.term == term, process.core.lastIndex < index else { return nil }
    return "\(process.host.number) had acknowledged entry \(index.rawValue), its log ends at "
      + "\(process.core.lastIndex.rawValue)"
  }

  /// Whether an entry that is applied is durable on a quorum of the configuration or of the one
  /// before, as entries behind a change may be committed in either.
  static func problem(
    commit entry: Entry, _ configuration: ConfState, _ hosts: [Host],
    _ known: inout [ConfState]
  ) -> String? {
    if known.last != configuration { known.append(configuration) }
    if known.count > 2 { known.removeFirst() }
    for state in known where !state.voters.isEmpty {
      var count = 0
      for host in hosts
      where state.isVoter(host.id) && host.durable.holds(entry.index, entry.term) { count += 1 }
      if count > state.voters.count / 2 { return nil }
    }
    // The first members' entries are committed from the start.
    if entry.term == Term(1) { return nil }
    return "entry \(entry.index.rawValue) is applied and not durable on a quorum"
  }
}

/// Term, vote and commit of a member never go back. Raft thesis §3.3, §3.8.
struct Monotonic {
  private var states: [(host: Int, state: HardState, isNew: Bool)] = []

  mutating func state(_ state: HardState, of host: Int) -> String? {
    guard let at = states.firstIndex(where: { $0.host == host }) else {
      states.append((host, state, false))
      return nil
    }
    let known = states[at].state
    let isNew = states[at].isNew
    states[at] = (host, state, false)
    // What was not yet durable may be forgotten by a crash.
    guard !isNew else { return nil }
    guard state.term >= known.term else { return "\(host) goes back a term" }
    guard state.commit >= known.commit else { return "\(host) takes a commit back" }
    guard state.term > known.term || known.vote == .none || state.vote == known.vote else {
      return "\(host) changes its vote"
    }
    return nil
  }

  /// The commit index that a process gave out last; nil before its first.
  func commit(of host: Int) -> LogIndex? {
    states.first { $0.host == host && !$0.isNew }?.state.commit
  }

  mutating func restarted(_ host: Int) {
    if let at = states.firstIndex(where: { $0.host == host }) { states[at].isNew = true }
  }
}
