import Basics
import Foundation
import Raft
import Testing

/// A transcript is a list of blocks: commands, a line of dashes, what came out, an empty line.
/// `REWRITE=1` writes what comes out now; the difference is read as prose.
@Suite struct `Transcripts` {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Transcripts")

  static var names: [String] {
    let all = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return all.filter { $0.hasSuffix(".txt") }.sorted()
  }

  @Test(arguments: names)
  func `come out as written`(name: String) throws {
    let url = Transcripts.folder.appendingPathComponent(name)
    let written = try String(contentsOf: url, encoding: .utf8)
    var teller = Teller()
    var result = ""
    for block in written.components(separatedBy: "\n\n") where !block.allSatisfy(\.isNewline) {
      let parts = block.components(separatedBy: "\n----")
      let commands = parts[0].trimmingCharacters(in: .newlines)
      let told = commands.split(separator: "\n").filter { !$0.hasPrefix("#") }
        .flatMap { teller.run($0.split(separator: " ").map(String.init)) }
      result += (result.isEmpty ? "" : "\n") + commands + "\n"
      if parts.count > 1 || !told.isEmpty {
        result += "----\n" + told.map { $0 + "\n" }.joined()
      }
    }
    if ProcessInfo.processInfo.environment["REWRITE"] == "1" {
      try result.write(to: url, atomically: true, encoding: .utf8)
    } else {
      #expect(result == written)
    }
  }

  @Test func `are there`() { #expect(Transcripts.names.count >= 4) }
}

/// Runs the commands of a transcript and tells what happens.
private struct Teller {
  var cluster = Cluster(voters: [1])

  mutating func run(_ words: [String]) -> [String] {
    guard words[0] != "cluster" else {
      func list(_ name: String) -> [UInt64] {
        words.first { $0.hasPrefix(name + "=") }?.dropFirst(name.count + 1)
          .split(separator: ",").map { UInt64($0)! } ?? []
      }
      let isPlain = words.contains("no-prevote")
      let inflight = list("inflight").first.map(Int.init)
      cluster = Cluster(voters: list("voters"), learners: list("learners"), others: list("others"))
      { config in
        if isPlain { config.preVote = false }
        if let inflight { config.inflightCountMax = inflight }
      }
      return []
    }
    if words[0] == "settle" { return quietly { $0.settle() } }
    if words[0] == "status" { return cluster.nodes.map(status) }
    if words[0] == "deliver" { return deliver(words) }
    if words[0] == "cut" {
      let id = NodeID(UInt64(words[1])!)
      cluster.isCut = { $0 == id || $1 == id }
      return []
    }
    if words[0] == "heal" {
      cluster.isCut = { _, _ in false }
      return []
    }
    return act(on: cluster[UInt64(words[1])!], words)
  }

  private func act(on node: Node, _ words: [String]) -> [String] {
    switch words[0] {
    case "tick": for _ in 0..<Int(words[2])! { node.core.tick() }
    case "campaign": node.core.campaign()
    case "propose":
      do { try node.propose(words[2]) } catch { return ["refused: \(error)"] }
    case "change":
      let change = ConfChange(
        id: 0, transition: .auto, changes: words[2...].map(single), context: [])
      do {
        try node.core.propose(kind: .confChangeV2, data: change.encoded(as: .confChangeV2))
      } catch { return ["refused: \(error)"] }
    case "read": if !node.read(UInt64(words[2])!) { return ["refused"] }
    case "transfer": node.core.transferLeadership(to: NodeID(UInt64(words[2])!))
    case "compact": node.core.compact(upTo: LogIndex(UInt64(words[2])!))
    case "restart": node.restart(keeping: 0, seed: 1)
    case "written": cluster.finishWrites(node, 1)
    case "applied": cluster.apply(node)
    case "output":
      guard node.hasOutput else { return ["nothing"] }
      cluster.pump(node)
      return tell(node.output)
    default: return ["what is \(words[0])?"]
    }
    return []
  }

  private func single(_ word: String) -> ConfChange.Single {
    let actions: [Character: ConfChange.Action] = ["+": .addVoter, "-": .remove, "~": .addLearner]
    return .init(actions[word.first!]!, NodeID(UInt64(word.dropFirst())!))
  }

  /// Who stands where afterwards, if it changed, and what was applied.
  private func quietly(_ body: (Cluster) -> Void) -> [String] {
    let before = cluster.nodes.map(status)
    body(cluster)
    let after = cluster.nodes.map(status)
    return zip(before, after).filter { $0 != $1 }.map(\.1)
  }

  private func status(_ node: Node) -> String {
    let status = node.core.status
    var text = "\(status.id.rawValue) \(status.standing.role) term \(status.standing.term.rawValue)"
    text += " leader \(status.standing.leader.rawValue) commit \(status.commit.rawValue)"
    text += " applied \(node.applied.rawValue) log \(status.firstIndex.rawValue)"
    text += "..\(status.lastIndex.rawValue)"
    if !node.reads.isEmpty {
      text += " reads " + node.reads.map { "\($0.context)@\($0.index.rawValue)" }.joined(by: ",")
    }
    return text
  }

  private func deliver(_ words: [String]) -> [String] {
    let to = words.count > 1 ? UInt64(words[1])! : nil
    let loses = words.contains("lost")
    let batch = cluster.network.filter { to == nil || $0.to.rawValue == to }
    cluster.network.removeAll { to == nil || $0.to.rawValue == to }
    for message in batch {
      if loses { cluster.lose(message) } else { cluster.deliver(message) }
    }
    return batch.map { (loses ? "lost " : "") + tell($0) }
  }

  private func tell(_ output: Output) -> [String] {
    var lines: [String] = []
    if let standing = output.standing {
      lines.append(
        "now \(standing.role) term \(standing.term.rawValue) leader \(standing.leader.rawValue)")
    }
    lines += output.messages.map { "send " + tell($0) }
    lines += output.snapshotsWanted.map { "wants a snapshot for \($0.rawValue)" }
    if let snapshot = output.snapshot {
      lines.append("store snapshot \(position(snapshot.metadata.index, snapshot.metadata.term))")
    }
    lines += output.entries.map { "write " + tell($0) }
    if let state = output.hardState {
      lines.append(
        "write term \(state.term.rawValue) vote \(state.vote.rawValue)"
          + " commit \(state.commit.rawValue)")
    }
    if output.mark != nil { lines.append(output.mustSync ? "sync, then" : "in order, then") }
    lines += output.then.map { "  send " + tell($0) }
    lines += output.committed.map { "apply " + tell($0) }
    lines += output.reads.map { "read \($0.context) at \($0.index.rawValue)" }
    return lines
  }

  private func position(_ index: LogIndex, _ term: Term) -> String {
    "\(index.rawValue)@\(term.rawValue)"
  }

  private func tell(_ entry: Entry) -> String {
    let text =
      entry.kind == .normal ? String(decoding: entry.data, as: UTF8.self) : "membership"
    return position(entry.index, entry.term) + (text.isEmpty ? "" : " " + text)
  }

  private func tell(_ message: Message) -> String {
    let route = "\(message.from.rawValue)->\(message.to.rawValue) term \(message.term.rawValue) "
    return route + tell(message.body)
  }

  private func tell(_ body: Message.Body) -> String {
    switch body {
    case .append(let append):
      let previous = position(append.previousIndex, append.previousTerm)
      let entries = append.entries.map(tell).joined(by: ", ")
      return "append after \(previous) commit \(append.commit.rawValue) [\(entries)]"
    case .appendResponse(let response):
      guard let rejection = response.rejection else { return "has \(response.index.rawValue)" }
      let hint = position(rejection.hintIndex, rejection.hintTerm)
      return "rejects \(response.index.rawValue) hint \(hint)"
    case .vote(let ballot):
      return "vote? last \(position(ballot.lastIndex, ballot.lastTerm))"
        + (ballot.isTransfer ? " by transfer" : "")
    case .preVote(let ballot):
      return "pre-vote? last \(position(ballot.lastIndex, ballot.lastTerm))"
    case .voteResponse(let isRejected): return isRejected ? "vote no" : "vote yes"
    case .preVoteResponse(let isRejected): return isRejected ? "pre-vote no" : "pre-vote yes"
    case .heartbeat(let commit, let context):
      return "heartbeat commit \(commit.rawValue)" + tell(context)
    case .heartbeatResponse(let context): return "heartbeat heard" + tell(context)
    case .snapshot(let snapshot):
      return "snapshot \(position(snapshot.metadata.index, snapshot.metadata.term))"
    case .timeoutNow: return "stand for election now"
    case .propose(let entries): return "propose " + entries.map(tell).joined(by: ", ")
    case .readIndex(let context): return "read index?" + tell(context)
    case .readIndexResponse(let index, let context):
      return "read index \(index.rawValue)" + tell(context)
    case .transferLeader: return "wants to lead"
    }
  }

  private func tell(_ context: [UInt8]) -> String {
    context.isEmpty ? "" : " context \(context.reduce(UInt64(0)) { $0 << 8 | UInt64($1) })"
  }
}

extension [String] {
  fileprivate func joined(by separator: String) -> String { joined(separator: separator) }
}
