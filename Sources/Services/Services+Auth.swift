internal import API
public import Auth
internal import Basics
public import Replica

/// Something with passwords or keys that takes milliseconds and belongs on a thread of its own.
public struct PasswordWork: Sendable {
  public enum Kind: Sendable {
    /// A new hash, answered with `hashed`.
    case hash([UInt8])
    /// Whether the password fits the hash, answered with `fits` or a refusal.
    case check([UInt8], hash: [UInt8])
    /// A signed token for a user, answered with `signed`.
    case sign(Principal)
  }

  public var id: UInt64
  public var kind: Kind
}

/// What came of a `PasswordWork`.
public enum PasswordAnswer: Sendable {
  case hashed([UInt8])
  /// `tokenPrefix`: letters that nobody can guess.
  case fits(tokenPrefix: [UInt8])
  case signed([UInt8])
  case refused(Failure)
}

/// The course of a call that brings a password.
struct Login {
  var request: AuthRequests.Login
  /// The auth revision at which the password was found right.
  var revision: UInt64 = 0
  /// What the log answered, while a token is signed.
  var response: [UInt8] = []
}

extension Services {
  mutating func receiveAuth(
    _ id: CallID, _ method: Method, _ message: RawSpan, out: inout Outbox
  ) throws(Failure) {
    do throws(DecodeError) {
      switch method {
      case .authenticate, .userAdd, .userChangePassword:
        let request = try AuthRequests.Login(message)
        calls.with(id) { $0.login = Login(request: request) }
      default: break
      }
    } catch {
      throw .malformed
    }
    switch method {
    case .authenticate: try read(id, .password, [], isSerializable: false)
    case .userAdd, .userChangePassword: try startHashing(id, method, out: &out)
    default:
      let kind = method.request
      let request: [UInt8]
      do { request = try AuthRequests.proposal(kind, message) } catch { throw .malformed }
      try propose(id, .auth(kind), request.rawSpan, out: &out)
    }
  }

  private mutating func startHashing(
    _ id: CallID, _ method: Method, out: inout Outbox
  ) throws(Failure) {
    guard let request = calls[id]?.login?.request else { return }
    let isNeeded = method == .userAdd ? request.noPassword != true : !request.password.isEmpty
    guard isNeeded else { return try proposeUser(id, request, hash: nil, out: &out) }
    try work(id, .hash(request.password), out: &out)
  }

  /// Gives work to a password thread.
  private mutating func work(
    _ id: CallID, _ kind: PasswordWork.Kind, out: inout Outbox
  ) throws(Failure) {
    guard passwordWaits.count < limits.requestsInFlightMax else { throw .tooMany }
    let work = PasswordWork(id: ids.next(), kind: kind)
    passwordWaits.append(id: work.id, call: id, deadline: status.now &+ limits.passwordTime)
    out.passwords.append(work)
  }

  private mutating func proposeUser(
    _ id: CallID, _ login: AuthRequests.Login, hash: [UInt8]?, out: inout Outbox
  ) throws(Failure) {
    if calls[id]?.method == .userAdd {
      let request = AuthRequests.userAdd(login, hash: hash)
      try propose(id, .auth(.authUserAdd), request.rawSpan, out: &out)
    } else {
      let request = AuthRequests.changePassword(login, hash: hash)
      try propose(id, .auth(.authUserChangePassword), request.rawSpan, out: &out)
    }
  }

  /// The hash is known that an Authenticate's password has to fit.
  mutating func checkPassword(
    _ id: CallID, hash: [UInt8], revision: UInt64, out: inout Outbox
  ) {
    guard let login = calls[id]?.login else { return }
    calls.with(id) { $0.login?.revision = revision }
    do throws(Failure) {
      try work(id, .check(login.request.password, hash: hash), out: &out)
    } catch {
      finish(id, error, out: &out)
    }
  }

  /// Takes the answer to a `PasswordWork`.
  public mutating func worked(_ work: UInt64, _ answer: PasswordAnswer, out: inout Outbox) {
    guard let id = passwordWaits.take(work), let login = calls[id]?.login else { return }
    do throws(Failure) {
      switch answer {
      case .refused(let failure): throw failure
      case .hashed(let hash): try proposeUser(id, login.request, hash: hash, out: &out)
      case .fits(let prefix):
        // Nobody proposes this: it is what tells who somebody is.
        let letters = tokens.kind == .simple ? prefix : []
        let request = AuthRequests.authenticate(login.request, tokenPrefix: letters)
        try propose(id, .auth(.authenticate), request.rawSpan, by: .none, out: &out)
      case .signed(let token):
        var response = login.response
        response.appendField(2, token.rawSpan)
        self.answer(id, response.rawSpan, out: &out)
      }
    } catch {
      finish(id, error, out: &out)
    }
  }

  /// The log has taken a login. When users or roles have changed since its password was checked,
  /// the password may no longer be the one: it is checked again. etcd: `Authenticate`.
  mutating func loggedIn(
    _ id: CallID, _ response: RawSpan, authRevision: UInt64, out: inout Outbox
  ) {
    guard let login = calls[id]?.login else { return }
    do throws(Failure) {
      guard authRevision == login.revision else {
        return try read(id, .password, [], isSerializable: true)
      }
      guard tokens.kind == .signed else { return answer(id, response, out: &out) }
      let copy = response.copied()
      calls.with(id) { $0.login?.response = copy }
      let who = Principal(user: login.request.name, revision: authRevision)
      try work(id, .sign(who), out: &out)
    } catch {
      finish(id, error, out: &out)
    }
  }
}

extension Method {
  /// The field of the log's entries for a method of the auth service.
  var request: RaftRequestKind {
    switch self {
    case .authEnable: .authEnable
    case .authDisable: .authDisable
    case .authStatus: .authStatus
    case .authenticate: .authenticate
    case .userAdd: .authUserAdd
    case .userGet: .authUserGet
    case .userList: .authUserList
    case .userDelete: .authUserDelete
    case .userChangePassword: .authUserChangePassword
    case .userGrantRole: .authUserGrantRole
    case .userRevokeRole: .authUserRevokeRole
    case .roleAdd: .authRoleAdd
    case .roleGet: .authRoleGet
    case .roleList: .authRoleList
    case .roleDelete: .authRoleDelete
    case .roleGrantPermission: .authRoleGrantPermission
    case .roleRevokePermission: .authRoleRevokePermission
    default: preconditionFailure("not a method of the auth service")
    }
  }
}
