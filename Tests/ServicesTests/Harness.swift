import API
import Auth
import Basics
import Lease
import MVCC
import Membership
import Raft
import Replica
import Services

/// One member, whole, on one thread: what a call proposes is committed at once, applied, and
/// answered to the services, until nothing moves any more.
final class Harness {
  static let member = NodeID(0x8e9e_05c5_2164_694d)
  static let cluster = ClusterID(0xcdf8_1819_4e3a_8c32)
  static let second: UInt64 = 1_000_000_000

  let lessor: LessorConfig
  var services: Services<MemoryBackend>
  var replica: Replica<MemoryBackend>
  let backend: MemoryBackend
  var reader: MemoryBackend.Reader
  var outbox = Outbox()
  var outcome = Outcome(loops: 1)
  /// All messages sent and calls finished so far.
  var messages: [(call: CallID, bytes: [UInt8])] = []
  var finished: [(call: CallID, failure: Failure?)] = []
  var now: UInt64 = 1_000_000_000_000
  var nextCall: UInt64 = 1
  var index = LogIndex.zero
  var settled = 0
  /// While false, nothing that is proposed commits and no read index is confirmed.
  var isConnected = true
  var pendingProposals: [Proposal] = []
  var pendingTicket: UInt64?
  var transferee: NodeID?
  /// Snapshot calls that began.
  var snapshots: [CallID] = []
  /// What the password thread was asked so far.
  var passwordWork: [PasswordWork] = []
  /// While false, the password thread does nothing.
  var doesPasswordWork = true
  var passwordWorkWaiting: [PasswordWork] = []
  var tokensGiven = 0
  /// Questions for another member, which leads.
  var forwards: [Forward] = []
  /// Entries that were committed, for another replica to apply.
  var log: [Entry] = []

  init(
    quotaBytes: Int64 = 0, tokens: TokenSettings = TokenSettings(),
    hashesCompactions: Bool = false,
    lessor: LessorConfig = LessorConfig(
      ttlMin: 1, revocationsPerSecond: 1000, checkpointInterval: nil),
    configure: (inout Limits) -> Void = { _ in }
  ) throws {
    self.lessor = lessor
    backend = MemoryBackend()
    reader = try backend.makeReader()
    var limits = Limits()
    configure(&limits)
    var status = MemberStatus(member: Harness.member, cluster: Harness.cluster)
    status.leader = Harness.member
    status.term = Term(2)
    status.version = "3.5.21"
    status.quotaBytes = quotaBytes
    status.unixSeconds = 1_700_000_000
    status.revision = 1
    services = Services(
      status: status, limits: limits, loop: 0, startMilliseconds: 7, seed: 1, digest: { $0 + $0 },
      tokens: tokens)
    replica = try Harness.makeReplica(
      backend, quotaBytes: quotaBytes, tokens: tokens.kind,
      hashesCompactions: hashesCompactions, lessor: lessor)
    let own = Membership.Member(
      id: Harness.member, name: "", peerURLs: ["http://localhost:2380"], clientURLs: [],
      isLearner: false)
    let change = MemberChange.add(own).confChange(id: 0)
    commit(.confChange, change.encoded(as: .confChange), term: Term(1))
    replica.roleChanged(leads: Term(2), now: now)
    commit(.normal, [])
    settle()
  }

  static func makeReplica(
    _ backend: MemoryBackend, quotaBytes: Int64, tokens: TokenKind = .simple,
    hashesCompactions: Bool = false,
    snapshot: Snapshot? = nil,
    lessor: LessorConfig = LessorConfig(
      ttlMin: 1, revocationsPerSecond: 1000, checkpointInterval: nil)
  ) throws -> Replica<MemoryBackend> {
    var config = ReplicaConfig(
      member: Harness.member, cluster: Harness.cluster, quotaBytes: quotaBytes,
      electionTimeout: Harness.second, startMilliseconds: 7, revocationsMax: 100,
      strictReconfiguration: true)
    config.tokenKind = tokens
    config.hashesCompactions = hashesCompactions
    config.tokenLifetime = 10 * Harness.second
    return try Replica.open(
      backend: backend, snapshot: snapshot, lessor: lessor, config: config
    ) { _ in }
  }

  /// Stops the member in good order and starts it anew, as the leader of the next term.
  func restart(term: Term) throws {
    save()
    replica = try Harness.makeReplica(backend, quotaBytes: 0, lessor: lessor)
    replica.apply(log, now: now, into: &outcome)
    outcome = Outcome(loops: 1)
    replica.roleChanged(leads: term, now: now)
    commit(.normal, [], term: term)
    settle()
  }

  /// Makes an entry of it and applies it.
  func commit(_ kind: EntryKind, _ data: [UInt8], term: Term = Term(2)) {
    index = index + 1
    let entry = Entry(term: term, index: index, kind: kind, data: data)
    log.append(entry)
    replica.apply([entry], now: now, into: &outcome)
  }

  private func refresh() {
    services.status.now = now
    services.status.commitIndex = index
    services.status.appliedIndex = replica.appliedIndex
    services.status.revision = replica.store.currentRevision
    services.status.compactRevision = replica.store.compactRevision
    services.status.alarms = replica.alarms.active
    services.status.isAuthEnabled = replica.access.store.isEnabled
    services.status.authRevision = replica.access.store.revision
    services.status.databaseBytes = backend.sizes().total
    services.status.databaseBytesInUse = backend.sizes().inUse
  }

  private var isIdle: Bool {
    outbox.proposals.isEmpty && outbox.queries.isEmpty && outbox.readIndexTicket == nil
      && outbox.passwords.isEmpty && outbox.replies.isEmpty
      && outcome.completions[0].isEmpty && outcome.events.isEmpty && outcome.proposals.isEmpty
      && !services.wantsStore && !replica.isHashing && !replica.isCompacting
  }

  /// Lets everything run until nothing moves.
  func settle() {
    var rounds = 0
    repeat {
      rounds += 1
      precondition(rounds < 1000, "the member does not come to rest")
      refresh()
      deliverOutcome()
      services.flush(out: &outbox)
      if services.wantsStore {
        services.plan(
          store: replica.store, control: replica.access, reader: &reader, rowsMax: { _ in .max })
        services.execute(reader: &reader, out: &outbox)
      }
      deliverOutbox()
      if isConnected {
        let proposals = pendingProposals
        pendingProposals = []
        for proposal in proposals { commit(proposal.kind, proposal.data) }
        if let ticket = pendingTicket {
          pendingTicket = nil
          services.readIndexReady(ticket: ticket, index: index)
          services.status.appliedIndex = replica.appliedIndex
          services.flush(out: &outbox)
        }
      }
      replica.hashStep(rowsMax: 2, into: &outcome)
      if replica.isCompacting { _ = replica.compactStep(keysMax: 100, into: &outcome) }
    } while !isIdle
    // Every other time what is buffered goes to the backend, so that reads find both.
    settled += 1
    if settled % 2 == 0 { save() }
  }

  /// What the background thread does: commits the write buffer.
  func save() {
    let batch = replica.store.freeze().batch()
    guard (try? backend.commit(batch)) != nil else { preconditionFailure("no commit fails here") }
    replica.store.dropFrozen()
  }

  private func deliverOutcome() {
    let work = outcome
    outcome = Outcome(loops: 1)
    services.events(work.events, out: &outbox)
    services.completed(work.completions[0], out: &outbox)
    pendingProposals += work.proposals
  }

  private func deliverOutbox() {
    for reply in outbox.replies {
      switch reply {
      case .answer(let call, let slice):
        messages.append((call, outbox.arena.rawSpan.extracting(slice).copied()))
        finished.append((call, nil))
      case .message(let call, let slice):
        messages.append((call, outbox.arena.rawSpan.extracting(slice).copied()))
      case .finish(let call, let failure): finished.append((call, failure))
      }
    }
    pendingProposals += outbox.proposals
    if let ticket = outbox.readIndexTicket { pendingTicket = ticket }
    if let target = outbox.transferee { transferee = target }
    snapshots += outbox.snapshots
    forwards += outbox.forwards
    let queries = outbox.queries
    let passwords = outbox.passwords
    replica.touch(outbox.usedTokens, now: now)
    outbox.removeAll()
    if doesPasswordWork {
      for work in passwords { answer(work) }
    } else {
      passwordWorkWaiting += passwords
    }
    for query in queries { replica.query(query, now: now, into: &outcome) }
  }

  /// In place of bcrypt: `#` before the password. Signed tokens are `user/revision`.
  private func answer(_ work: PasswordWork) {
    passwordWork.append(work)
    let answer: PasswordAnswer
    switch work.kind {
    case .hash(let password): answer = .hashed([0x23] + password)
    case .check(let password, let hash):
      tokensGiven += 1
      answer =
        hash == [0x23] + password
        ? .fits(tokenPrefix: [UInt8]("token\(tokensGiven)".utf8)) : .refused(.authFailed)
    case .sign(let who): answer = .signed(who.user + [UInt8]("/\(who.revision)".utf8))
    }
    services.worked(work.id, answer, out: &outbox)
  }

  func finish(_ work: PasswordWork, _ answer: PasswordAnswer) {
    refresh()
    services.worked(work.id, answer, out: &outbox)
    settle()
  }

  /// Lets time pass.
  func pass(_ nanoseconds: UInt64) {
    now += nanoseconds
    if replica.wantsTokenExpiry(now: now) { replica.expireTokens(now: now) }
    refresh()
    replica.tick(now: now, into: &outcome)
    services.tick(out: &outbox)
    settle()
  }

  func open(
    _ method: Method, needsLeader: Bool = false, timeout: UInt64? = nil, token: String = "",
    commonName: String = "", isProxied: Bool = false
  ) -> CallID {
    let call = CallID(nextCall)
    nextCall += 1
    refresh()
    services.open(
      call, method, needsLeader: needsLeader, timeout: timeout,
      token: [UInt8](token.utf8), commonName: [UInt8](commonName.utf8), isProxied: isProxied,
      out: &outbox)
    return call
  }

  func send(_ call: CallID, _ message: [UInt8]) {
    refresh()
    services.receive(call, message.rawSpan, out: &outbox)
    settle()
  }

  /// Starts a call with one message, which may or may not be answered.
  func start(
    _ method: Method, _ message: [UInt8], timeout: UInt64? = nil, token: String = "",
    commonName: String = "", isProxied: Bool = false
  ) -> CallID {
    let call = open(
      method, timeout: timeout, token: token, commonName: commonName, isProxied: isProxied)
    send(call, message)
    services.halfClosed(call, out: &outbox)
    settle()
    return call
  }

  /// How a call ended: nil while it has not.
  func end(_ call: CallID) -> Failure?? {
    finished.first { $0.call == call }.map { $0.failure }
  }

  func answers(_ call: CallID) -> [[UInt8]] {
    messages.filter { $0.call == call }.map(\.bytes)
  }

  /// A call with one answer; throws how it failed.
  @discardableResult
  func call(
    _ method: Method, _ message: [UInt8], token: String = "", commonName: String = "",
    isProxied: Bool = false
  ) throws(Failure) -> Message {
    let call = start(
      method, message, token: token, commonName: commonName, isProxied: isProxied)
    guard let end = end(call) else { throw Failure(.unknown, "the call is not answered") }
    if let failure = end { throw failure }
    let found = answers(call)
    guard found.count == 1 else { throw Failure(.unknown, "not one message") }
    return Message(found[0])
  }
}

/// A protobuf message taken apart, for looking at.
struct Message: Equatable {
  var bytes: [UInt8]
  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func numbers(_ number: Int) -> [Int64] {
    var found: [Int64] = []
    var reader = ProtoReader(bytes.rawSpan)
    while let tag = try? reader.nextTag() {
      guard tag.field == number, let value = try? reader.int64(tag) else {
        try? reader.skip(tag)
        continue
      }
      found.append(value)
    }
    return found
  }

  func messages(_ number: Int) -> [Message] {
    var found: [Message] = []
    var reader = ProtoReader(bytes.rawSpan)
    while let tag = try? reader.nextTag() {
      guard tag.field == number, let slice = try? reader.bytes(tag) else {
        try? reader.skip(tag)
        continue
      }
      found.append(Message(bytes.rawSpan.extracting(slice).copied()))
    }
    return found
  }

  func number(_ number: Int) -> Int64 { numbers(number).last ?? 0 }

  func message(_ number: Int) -> Message { messages(number).last ?? Message([]) }
  func text(_ number: Int) -> String { String(decoding: message(number).bytes, as: UTF8.self) }
  func texts(_ number: Int) -> [String] {
    messages(number).map { String(decoding: $0.bytes, as: UTF8.self) }
  }
  /// The revision of a response's header.
  var revision: Int64 { message(1).number(3) }
}

/// Builds requests.
enum Request {
  enum Value {
    case number(Int64)
    case text(String)
    case message([UInt8])
  }

  static func make(_ fields: (Int, Value)...) -> [UInt8] {
    var bytes: [UInt8] = []
    for (number, value) in fields {
      switch value {
      case .number(let value):
        bytes.appendAlways(number, UInt64(bitPattern: value))
      case .text(let text): bytes.appendMessage(number, [UInt8](text.utf8).rawSpan)
      case .message(let inner): bytes.appendMessage(number, inner.rawSpan)
      }
    }
    return bytes
  }

  static func put(_ key: String, _ value: String, lease: Int64 = 0, previous: Bool = false)
    -> [UInt8]
  {
    make(
      (1, .text(key)), (2, .text(value)), (3, .number(lease)), (4, .number(previous ? 1 : 0)))
  }

  static func get(_ key: String, end: String = "") -> [UInt8] {
    make((1, .text(key)), (2, .text(end)))
  }

  static func compare(_ key: String, target: Int64, _ value: (Int, Value), result: Int64 = 0)
    -> [UInt8]
  {
    make((1, .number(result)), (2, .number(target)), (3, .text(key)), value)
  }

  static func txn(
    _ compares: [[UInt8]], _ success: [(Int, [UInt8])], _ failure: [(Int, [UInt8])] = []
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    for compare in compares { bytes.appendMessage(1, compare.rawSpan) }
    for (field, ops) in [(2, success), (3, failure)] {
      for (kind, request) in ops {
        bytes.appendMessage(field, make((kind, .message(request))).rawSpan)
      }
    }
    return bytes
  }
}
