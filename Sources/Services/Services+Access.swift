internal import API
internal import Auth
internal import Basics
internal import MVCC
internal import Replica

extension Services {
  private static var bearer: [UInt8] { [UInt8]("Bearer ") }

  /// Takes a token apart. A signed one is verified here, where no lock is held.
  mutating func credentials(token: [UInt8], commonName: [UInt8]) -> Credentials {
    var token = token
    if token.starts(with: Self.bearer) { token.removeFirst(Self.bearer.count) }
    var credentials = Credentials(token: token, commonName: commonName)
    guard !token.isEmpty else { return credentials }
    switch tokens.kind {
    case .none: break
    case .simple:
      if let index = TokenTable.index(of: token) { credentials.tokenIndex = LogIndex(index) }
    case .signed: credentials.claims = claims(of: token)
    }
    return credentials
  }

  private mutating func claims(of token: [UInt8]) -> TokenClaims? {
    if let known = access.verified[token] { return known }
    guard let claims = tokens.verify(token, status.unixSeconds) else { return nil }
    if access.verified.count >= limits.verifiedTokensMax { access.verified.removeAll() }
    access.verified[token] = claims
    return claims
  }

  /// Keeps a request until it is known who makes it.
  mutating func hold(_ id: CallID, _ work: Held.Work) throws(Failure) {
    admitEarly()
    guard access.count < limits.readsWaitingMax else { throw .tooMany }
    let held = Held(call: id, work: work)
    guard let index = calls[id]?.credentials?.tokenIndex, index > status.appliedIndex else {
      return access.waiting.append(held)
    }
    let until = status.now &+ limits.requestTimeout
    access.early.append((index, .held(held, until: until)))
  }

  /// Lets a read go ahead, unless its token is not known here yet.
  mutating func makeReady(_ read: Read) {
    if case .password = read.kind { return reads.ready.append(read) }
    guard let index = calls[read.call]?.credentials?.tokenIndex, status.isAuthEnabled,
      index > status.appliedIndex
    else { return reads.ready.append(read) }
    access.early.append((index, .read(read)))
  }

  /// Lets go what waited for its token and can be looked at now.
  mutating func admitEarly() {
    guard !access.early.isEmpty else { return }
    let applied = status.appliedIndex
    for case (let index, let item) in access.early where index <= applied {
      switch item {
      case .read(let read): reads.ready.append(read)
      case .held(let held, _): access.waiting.append(held)
      }
    }
    access.early.removeAll { $0.index <= applied }
  }

  /// A token that names an entry of a far future is none.
  mutating func expireEarly(out: inout Outbox) {
    guard !access.early.isEmpty else { return }
    let now = status.now
    func call(_ item: AccessQueue.Early) -> CallID? {
      switch item {
      case .read(let read): read.deadline <= now ? read.call : nil
      case .held(let held, let until): until <= now ? held.call : nil
      }
    }
    let late = access.early.compactMap { call($0.item) }
    access.early.removeAll { call($0.item) != nil }
    for id in late { fail(id, .invalidToken, out: &out) }
  }

  mutating func reportTokens(out: inout Outbox) {
    guard !access.usedTokens.isEmpty else { return }
    out.usedTokens += access.usedTokens
    access.usedTokens.removeAll(keepingCapacity: true)
    access.isUsed.removeAll(keepingCapacity: true)
  }

  // MARK: Under the lock

  /// Who shows these credentials now. etcd: `AuthInfoFromCtx`.
  private mutating func identify(
    _ credentials: Credentials?, _ control: borrowing AccessControl
  ) throws(Failure) -> Principal {
    guard control.store.isEnabled, let credentials else { return .none }
    let revision = control.store.revision
    guard !credentials.token.isEmpty else {
      guard !credentials.commonName.isEmpty else { return .none }
      return Principal(user: credentials.commonName, revision: revision)
    }
    if tokens.kind == .signed {
      guard let claims = credentials.claims, status.unixSeconds < claims.expires ?? .max else {
        throw .invalidToken
      }
      return claims.principal
    }
    guard let user = control.tokens.user(of: credentials.token) else { throw .invalidToken }
    access.use(credentials.token)
    return Principal(user: user, revision: revision)
  }

  /// Finds out who asks for what is held.
  mutating func identify(_ control: borrowing AccessControl) {
    guard !access.waiting.isEmpty else { return }
    let waiting = access.waiting
    access.waiting.removeAll(keepingCapacity: true)
    for held in waiting {
      var who = Principal.none
      var failure: Failure?
      do throws(Failure) {
        if case .orphan(_, _, let credentials) = held.work {
          who = try identify(credentials, control)
        } else if let call = calls[held.call] {
          who = try identify(held, call, control)
        } else {
          continue
        }
      } catch {
        failure = error
      }
      access.identified.append((held, who, failure))
    }
  }

  private mutating func identify(
    _ held: Held, _ call: Call, _ control: borrowing AccessControl
  ) throws(Failure) -> Principal {
    guard case .message(let message) = held.work else {
      return try identify(call.credentials, control)
    }
    if call.method == .watch {
      try checkWatch(message, call, control)
      return .none
    }
    do throws(Failure) {
      let who = try identify(call.credentials, control)
      try Self.check(who, call.method.requirement(message.rawSpan), control.store)
      return who
    } catch {
      throw call.method.tellsOwnErrors ? .unmapped(error) : error
    }
  }

  private static func check(
    _ who: Principal, _ requirement: Requirement, _ store: AuthStore
  ) throws(Failure) {
    do throws(AuthError) {
      switch requirement {
      case .nothing: break
      case .identity: try store.checkIdentified(who)
      case .root: try store.checkAdmin(who)
      }
    } catch {
      throw Failure(error)
    }
  }

  /// Refuses a watch of keys that may not be read. Other messages of the stream need nothing, and
  /// what is wrong with one is said when it is carried out.
  private mutating func checkWatch(
    _ message: [UInt8], _ call: Call, _ control: borrowing AccessControl
  ) throws(Failure) {
    guard let request = try? WatchRequestView(message.rawSpan), case .create(let view) = request,
      view.startRevision >= 0
    else { return }
    let who = try identify(call.credentials, control)
    let bytes = message.rawSpan
    var range = KeyRange(
      key: bytes.extracting(view.key).copied(), end: bytes.extracting(view.rangeEnd).copied())
    if range.key.isEmpty { range.key = [0] }
    do throws(AuthError) { try control.store.checkRead(who, range) } catch {
      throw Failure(error)
    }
  }

  /// Refuses a read that is not permitted.
  mutating func check(_ read: Read, _ control: borrowing AccessControl) throws(Failure) {
    let bytes = read.message.rawSpan
    switch read.kind {
    case .password, .query: return
    case .range(let request):
      let who = try identify(calls[read.call]?.credentials, control)
      do throws(AuthError) {
        try control.store.checkRead(who, request.keys(bytes))
        try control.store.checkStillValid(who)
      } catch {
        throw Failure(error)
      }
    case .txn(let txn):
      let who = try identify(calls[read.call]?.credentials, control)
      do throws(AuthError) {
        // Nothing is put, so that no lease matters.
        try Permissions.check(txn, bytes, by: who, control.store) { _ in [] }
        try control.store.checkStillValid(who)
      } catch {
        throw Failure(error)
      }
    }
  }

  // MARK: Without the lock

  /// Goes on with what has been identified.
  mutating func carryOutIdentified(out: inout Outbox) {
    guard !access.identified.isEmpty else { return }
    let identified = access.identified
    access.identified.removeAll(keepingCapacity: true)
    for (held, who, failure) in identified {
      let id = held.call
      if case .orphan(let kind, let request, _) = held.work {
        guard failure == nil else { continue }
        out.proposals.append(Proposal(kind, request.rawSpan, id: ids.next(), by: who))
        continue
      }
      guard let call = calls[id] else { continue }
      do throws(Failure) {
        if call.method == .watch {
          calls.with(id) { $0.heldMessages -= 1 }
        }
        if let failure {
          guard call.method == .watch else { throw failure }
          refuseWatch(id, failure)
          continue
        }
        try carryOut(held, call, by: who, out: &out)
      } catch {
        fail(id, error, out: &out)
      }
    }
  }

  private mutating func carryOut(
    _ held: Held, _ call: Call, by who: Principal, out: inout Outbox
  ) throws(Failure) {
    switch held.work {
    case .proposal(let kind, let request):
      try propose(held.call, kind, request.rawSpan, by: who, out: &out)
    case .query(let kind): try ask(held.call, kind, by: who, out: &out)
    case .message(let message):
      if call.method == .watch {
        try receiveWatch(held.call, message.rawSpan, out: &out)
      } else {
        try receive(held.call, call.method, message.rawSpan, out: &out)
      }
    case .orphan: break
    }
  }
}
