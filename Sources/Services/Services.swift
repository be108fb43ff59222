internal import API
internal import Auth
internal import Basics
public import MVCC
public import Membership
internal import Replica

/// One call as the services see it.
struct Call {
  var method: Method
  /// Whether the client would rather be refused than served by a member without a leader.
  var needsLeader: Bool
  /// The client's own deadline; the largest number when it gave none.
  var deadline: UInt64
  var hasRequest = false
  var isHalfClosed = false
  /// Keep-alives that wait for their answers.
  var outstanding = 0
  /// The client does not read what is sent.
  var isFull = false
  /// What MoveLeader waits for.
  var transferee: NodeID?
  /// What is asked of the leader once it is known that the client may.
  var questions: [Query.Kind] = []
  /// Messages of a stream that wait to be identified.
  var heldMessages = 0
  /// Monotonic, in nanoseconds.
  var openedAt: UInt64 = 0
  /// The server's own call: counted nowhere.
  var isOwn = false
  private var course = Course.none
  private var badge = Badge.none

  init(method: Method, needsLeader: Bool, deadline: UInt64) {
    self.method = method
    self.needsLeader = needsLeader
    self.deadline = deadline
  }

  /// Few calls have a course, so that it has memory of its own.
  private indirect enum Course {
    case none
    case running(Waiter)
    case loggingIn(Login)
  }

  /// What the client said of itself; nothing, for most.
  private indirect enum Badge {
    case none
    case shown(Credentials)
  }

  var credentials: Credentials? {
    get { if case .shown(let credentials) = badge { credentials } else { nil } }
    set { badge = newValue.map(Badge.shown) ?? .none }
  }

  /// The course of Authenticate, UserAdd or UserChangePassword.
  var login: Login? {
    get { if case .loggingIn(let login) = course { login } else { nil } }
    set { course = newValue.map(Course.loggingIn) ?? .none }
  }

  var hasWaiter: Bool { if case .running = course { true } else { false } }

  /// The course of a Lock, Campaign, Observe or the like.
  var waiter: Waiter? {
    get { if case .running(let waiter) = course { waiter } else { nil } }
    set { course = newValue.map(Course.running) ?? .none }
  }
}

/// The gRPC services of one io loop, sans-I/O: calls and messages in, replies, proposals and
/// questions out. Decodes, checks, asks and encodes; owns no thread, no clock and no socket.
///
/// In one wake the shell sets `status`, feeds whatever has happened, calls `flush`, then, when
/// `wantsStore`, `plan` under the store's read lock and `execute` without it.
public struct Services<B: Backend>: ~Copyable {
  public var status: MemberStatus
  let limits: Limits
  let digest: Digest
  let tokens: TokenSettings
  var access = AccessQueue()
  var random: Random
  var ids: RequestIDs
  var calls = CallTable<Call>(givesNumbers: false)
  /// Streams that end when the leader is lost, in order of their opening.
  var leaderStreams: [CallID] = []
  /// Calls that wait for leadership to move.
  var transfers: [CallID] = []
  var waits = WaitQueue()
  /// The same for what takes as long as the store is large; only the client's time ends it.
  var longWaits = WaitQueue()
  /// The same for work with passwords, which may take longer.
  var passwordWaits = WaitQueue()
  var deadlines = DeadlineHeap()
  var reads = ReadQueue()
  var planned: [Planned] = []
  var waiters = Waiters()
  var hub: WatchHub
  var watches = WatchWork()
  /// When the leader was lost; nil while there is one.
  var leaderlessSince: UInt64?
  var lastLeader: NodeID
  var scratch: [UInt8] = []
  var tally = Tally()

  /// `status` says at which revision the changes that `events` will bring begin.
  /// `loop`: this loop's number, 0 to 14. `digest`: SHA-1, for the IDs of members to be added.
  public init(
    status: MemberStatus, limits: Limits, loop: Int, startMilliseconds: UInt64, seed: UInt64,
    digest: @escaping Digest, tokens: TokenSettings = TokenSettings()
  ) {
    precondition(loop < RequestIDs.loopsMax)
    self.status = status
    self.limits = limits
    self.digest = digest
    self.tokens = tokens
    random = Random(seed: seed)
    ids = RequestIDs(member: status.member, startMilliseconds: startMilliseconds, loop: loop)
    lastLeader = status.leader
    hub = WatchHub(
      limits: limits.watch, currentRevision: status.revision,
      compactRevision: status.compactRevision, seed: random.next())
  }

  /// Opens a call. `timeout`: what `grpc-timeout` gives it, in nanoseconds, or nil. A call that
  /// cannot be served is finished at once. `token`: what the client sent as `token` or
  /// `authorization`, empty when neither. `commonName`: of the client's certificate, empty when
  /// none was demanded; it says nothing of a call that `isProxied` by a gateway.
  public mutating func open(
    _ id: CallID, _ method: Method, needsLeader: Bool, timeout: UInt64?, token: [UInt8],
    commonName: [UInt8] = [], isProxied: Bool = false, out: inout Outbox
  ) {
    tally.opened(method)
    var call = Call(method: method, needsLeader: needsLeader, deadline: .max)
    call.openedAt = status.now
    if let refusal = refusal(method, needsLeader: needsLeader) {
      count(call, code: refusal.code.rawValue)
      return out.finish(id, refusal)
    }
    if let timeout {
      let (deadline, isBeyond) = status.now.addingReportingOverflow(timeout)
      call.deadline = isBeyond ? .max : deadline
      if !isBeyond { deadlines.insert(deadline, id) }
      // Most calls are over long before their time is.
      if deadlines.count > 2 * calls.count + limits.deadlinesKept {
        let open = calls
        deadlines.drop { !open.contains($0) && $0 != id }
      }
    }
    if needsLeader, method.isServerStreaming { leaderStreams.append(id) }
    let name = isProxied ? [] : commonName
    if !token.isEmpty || !name.isEmpty {
      call.credentials = credentials(token: token, commonName: name)
    }
    calls.insert(call, as: id)
  }

  /// Why a call cannot be opened now.
  private func refusal(_ method: Method, needsLeader: Bool) -> Failure? {
    if calls.count >= limits.callsMax { return .tooMany }
    if needsLeader, status.leader == .none { return .noLeader }
    let isStream = method.isServerStreaming && method != .healthWatch
    return status.isLearner && isStream ? .notSupportedForLearner : nil
  }

  /// Takes one message of a call. A call that is over is ignored: its end is on the way.
  public mutating func receive(_ id: CallID, _ message: RawSpan, out: inout Outbox) {
    guard let (method, isFirst) = calls.with(id, { ($0.method, !$0.hasRequest) }) else { return }
    tally.received(method)
    do throws(Failure) {
      guard message.byteCount <= limits.messageBytesMax else {
        throw .messageTooLarge
      }
      if method.isClientStreaming {
        try receiveStreamed(id, method, message, out: &out)
      } else {
        // grpc-go reads one message of a unary call and leaves the others.
        guard isFirst else { return }
        calls.with(id) { $0.hasRequest = true }
        try refuseLearner(method, message)
        if status.isAuthEnabled, method.requirement(message) != .nothing {
          return try hold(id, .message(message.copied()))
        }
        try receive(id, method, message, out: &out)
      }
    } catch {
      finish(id, error, out: &out)
    }
  }

  /// The client sends no more.
  public mutating func halfClosed(_ id: CallID, out: inout Outbox) {
    guard let call = calls[id] else { return }
    calls.with(id) { $0.isHalfClosed = true }
    switch call.method {
    case .watch: break  // A watch goes on until the client cancels it: the gateway counts on that.
    case .leaseKeepAlive: if call.outstanding == 0 { finish(id, nil, out: &out) }
    default: if !call.hasRequest { finish(id, .noMessage, out: &out) }
    }
  }

  /// The client has gone; nothing more is said to it and all it held is freed.
  public mutating func cancelled(_ id: CallID, out: inout Outbox) {
    guard let call = calls[id] else { return }
    count(call, code: Failure.Code.cancelled.rawValue)
    close(id, out: &out)
  }

  /// Ends a call and frees what it holds.
  mutating func finish(_ id: CallID, _ failure: Failure?, out: inout Outbox) {
    guard let call = calls[id] else { return }
    let failure = call.method.isConcurrency ? failure?.asUnknown : failure
    count(call, code: failure?.code.rawValue ?? 0)
    out.finish(id, failure)
    close(id, out: &out)
  }

  /// Sends the response of a call with only one, and ends it.
  mutating func answer(_ id: CallID, _ response: RawSpan, out: inout Outbox) {
    guard let call = calls[id] else { return }
    count(call, code: 0)
    if !call.isOwn { tally.sent(call.method) }
    out.answer(id, response)
    close(id, out: &out)
  }

  private mutating func close(_ id: CallID, out: inout Outbox) {
    guard let call = calls.remove(id) else { return }
    if call.needsLeader, call.method.isServerStreaming { leaderStreams.removeAll { $0 == id } }
    if call.transferee != nil { transfers.removeAll { $0 == id } }
    if call.method == .watch { closeWatch(id) }
    if let waiter = call.waiter { abandon(id, waiter, call.credentials, out: &out) }
  }

  private func refuseLearner(_ method: Method, _ message: RawSpan) throws(Failure) {
    guard status.isLearner else { return }
    switch method {
    case .status, .healthCheck, .healthWatch: return
    case .range:
      if let range = try? RangeRequestView(message), range.serializable { return }
    default: break
    }
    throw .notSupportedForLearner
  }

  var header: ResponseHeaderView {
    ResponseHeaderView(
      clusterID: status.cluster, memberID: status.member, revision: status.revision,
      raftTerm: status.term)
  }
}

extension Method {
  /// Whether the method is built on others, as etcd builds Lock and Election on its own client.
  var isConcurrency: Bool {
    switch self {
    case .lock, .unlock, .campaign, .proclaim, .leader, .observe, .resign: true
    default: false
    }
  }
}

extension Failure {
  /// What etcd makes of its own refusals on their way through its client: the text stays, the
  /// code is lost.
  var asUnknown: Failure { text.hasPrefix("etcdserver: ") ? Failure(.unknown, text) : self }

  static let messageTooLarge = Failure(
    .resourceExhausted, "grpc: received message larger than max")
  static let noMessage = Failure(.unknown, "EOF")
}
