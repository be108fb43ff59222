import Basics
import Raft

/// One participant with a disk that keeps what was written, a queue of writes under way, and a
/// state machine that is durable at once.
final class Node {
  struct Write {
    var mark: WriteMark
    var entries: [Entry]
    var hardState: HardState?
    var snapshot: Snapshot?
    var then: [Message]
  }

  let id: NodeID
  var config: Config
  var core: Core
  var output = Output()
  // The disk.
  var log: [Entry] = []
  var hardState = HardState.empty
  var snapshot: SnapshotMetadata?
  var writes: [Write] = []
  // The state machine: the terms of the entries applied, and what follows from them.
  var history: [Entry] = []
  var applied = LogIndex.zero
  var confState: ConfState
  var pending: [Entry] = []
  var pendingSnapshot: Snapshot?
  var isUp = true
  var reads: [(context: UInt64, index: LogIndex)] = []
  var snapshotsWanted: [NodeID] = []

  init(config: Config, confState: ConfState, seed: UInt64) {
    id = config.id
    self.config = config
    self.confState = confState
    core = Core(
      config: config, hardState: .empty, confState: confState, snapshot: nil, entries: [],
      applied: .zero, seed: seed)
  }

  /// Starts anew from the disk; the last `kept` writes under way made it there, unacknowledged.
  func restart(keeping kept: Int, seed: UInt64) {
    for write in writes.prefix(kept) { store(write) }
    writes = []
    pending = []
    if let snapshot = pendingSnapshot, self.snapshot == snapshot.metadata { install(snapshot) }
    pendingSnapshot = nil
    reads = []
    output = Output()
    core = Core(
      config: config, hardState: hardState, confState: confState, snapshot: snapshot, entries: log,
      applied: applied, seed: seed)
  }

  var hasOutput: Bool { core.hasOutput }

  func read(_ context: UInt64) -> Bool { core.readIndex(context: context) }

  func propose(_ text: String) throws { try core.propose(kind: .normal, data: bytes(text)) }

  func store(_ write: Write) {
    if let snapshot = write.snapshot {
      self.snapshot = snapshot.metadata
      log = []
      pendingSnapshot = snapshot
    }
    if let first = write.entries.first {
      log.removeAll { $0.index >= first.index }
      precondition(log.isEmpty || log.last!.index + 1 == first.index)
      log += write.entries
    }
    if let state = write.hardState { hardState = state }
  }

  func install(_ snapshot: Snapshot) {
    // The data of a snapshot is the history, one entry after the other: term, size, bytes.
    guard snapshot.metadata.index > applied else { return }
    history = snapshot.decodedHistory
    applied = snapshot.metadata.index
    confState = snapshot.metadata.confState
  }

  func makeSnapshot() -> Snapshot {
    let metadata = SnapshotMetadata(
      confState: confState, index: applied, term: history.last?.term ?? .zero)
    return Snapshot(metadata: metadata, data: Snapshot.encoded(history))
  }
}

extension Snapshot {
  static func encoded(_ history: [Entry]) -> [UInt8] {
    history.flatMap { [UInt8($0.term.rawValue), $0.kind.rawValue, UInt8($0.data.count)] + $0.data }
  }

  var decodedHistory: [Entry] {
    var all: [Entry] = []
    var offset = 0
    while offset < data.count {
      let count = Int(data[offset + 2])
      all.append(
        Entry(
          term: Term(UInt64(data[offset])), index: LogIndex(UInt64(all.count + 1)),
          kind: EntryKind(rawValue: data[offset + 1])!,
          data: Array(data[(offset + 3)..<(offset + 3 + count)])))
      offset += 3 + count
    }
    return all
  }
}

/// Nodes and the messages between them; the caller decides what happens when.
final class Cluster {
  var nodes: [Node] = []
  var network: [Message] = []
  /// Called for what each output holds, before it is honoured.
  var onOutput: (Node) -> Void = { _ in }
  var onApply: (Node, Entry) -> Void = { _, _ in }
  var isCut: (NodeID, NodeID) -> Bool = { _, _ in false }

  init(
    voters: [UInt64], learners: [UInt64] = [], others: [UInt64] = [], seed: UInt64 = 1,
    adjust: (inout Config) -> Void = { _ in }
  ) {
    let confState = ConfState(
      voters: voters.map(NodeID.init), learners: learners.map(NodeID.init), votersOutgoing: [],
      learnersNext: [], autoLeave: false)
    for id in (voters + learners + others).sorted() {
      var config = Config(id: NodeID(id), electionTicks: 10, heartbeatTicks: 1)
      adjust(&config)
      nodes.append(Node(config: config, confState: confState, seed: seed &* 31 &+ id))
    }
  }

  subscript(id: UInt64) -> Node { nodes.first { $0.id.rawValue == id }! }

  var leader: Node? {
    nodes.filter { $0.core.role == .leader }.max { $0.core.term < $1.core.term }
  }

  /// Takes an output and starts on it: sends, queues the write, queues what is to be applied.
  func pump(_ node: Node) {
    guard node.core.hasOutput else { return }
    node.core.takeOutput(into: &node.output)
    onOutput(node)
    let output = node.output
    network += output.messages
    if let mark = output.mark {
      node.writes.append(
        Node.Write(
          mark: mark, entries: output.entries, hardState: output.hardState,
          snapshot: output.snapshot, then: output.then))
    } else {
      precondition(output.entries.isEmpty && output.hardState == nil && output.then.isEmpty)
    }
    if output.snapshot != nil { node.pending = [] }
    node.pending += output.committed
    node.reads += output.reads
    for id in output.snapshotsWanted { sendSnapshot(from: node, to: id) }
  }

  func sendSnapshot(from node: Node, to id: NodeID) {
    if let message = node.core.snapshotMessage(node.makeSnapshot(), to: id) {
      network.append(message)
    }
  }

  /// Lets the oldest `count` writes under way reach the disk and acknowledges the last of them.
  func finishWrites(_ node: Node, _ count: Int = .max) {
    let done = Array(node.writes.prefix(count))
    guard let last = done.last else { return }
    node.writes.removeFirst(done.count)
    for write in done { node.store(write) }
    node.core.appended(last.mark)
    for write in done { network += write.then }
  }

  func apply(_ node: Node, _ count: Int = .max) {
    if let snapshot = node.pendingSnapshot {
      node.install(snapshot)
      node.pendingSnapshot = nil
    }
    let batch = node.pending.prefix(count)
    // Entries behind a snapshot wait for it.
    guard let first = batch.first, first.index == node.applied + 1 else { return }
    for entry in batch {
      node.applied = entry.index
      node.history.append(entry)
      onApply(node, entry)
      guard entry.kind != .normal else { continue }
      guard let change = try? ConfChange(kind: entry.kind, data: entry.data) else {
        preconditionFailure("a leader took a change that is none")
      }
      // A change that cannot be is refused alike everywhere.
      let next = try? node.core.applyConfChange(change, at: entry.index)
      if let next { node.confState = next }
    }
    node.core.applied(upTo: node.applied)
    node.pending.removeFirst(batch.count)
  }

  func deliver(_ message: Message) {
    guard let node = nodes.first(where: { $0.id == message.to }), node.isUp,
      !isCut(message.from, message.to)
    else {
      lose(message)
      return
    }
    node.core.step(message)
    report(message, isDelivered: true)
  }

  func lose(_ message: Message) { report(message, isDelivered: false) }

  /// The sender of a snapshot always learns its outcome.
  private func report(_ message: Message, isDelivered: Bool) {
    guard case .snapshot = message.body else { return }
    let sender = nodes.first { $0.id == message.from }
    sender?.core.reportSnapshot(message.to, isDelivered: isDelivered)
  }

  /// Everything at once, until nothing is left to do.
  func settle() {
    var rounds = 0
    while true {
      rounds += 1
      precondition(rounds < 10_000, "the cluster does not settle")
      var isBusy = false
      for node in nodes where node.isUp {
        if node.core.hasOutput || !node.writes.isEmpty { isBusy = true }
        pump(node)
        finishWrites(node)
        apply(node)
      }
      let batch = network
      network = []
      for message in batch { deliver(message) }
      if !isBusy && batch.isEmpty { return }
    }
  }

  func tick(_ times: Int = 1) {
    for _ in 0..<times {
      for node in nodes where node.isUp { node.core.tick() }
      settle()
    }
  }

  func elect(_ id: UInt64) {
    self[id].core.campaign()
    settle()
  }
}

func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
