public import Auth
internal import Basics
internal import MVCC
public import Replica

/// How logins are answered and tokens are read.
public struct TokenSettings: Sendable {
  public var kind: TokenKind
  /// Reads a signed token: its claims, or nil when it is not signed as it should be. Given the
  /// token and the seconds since 1970.
  public var verify: @Sendable ([UInt8], Int64) -> TokenClaims?

  public init(
    kind: TokenKind = .simple,
    verify: @escaping @Sendable ([UInt8], Int64) -> TokenClaims? = { _, _ in nil }
  ) {
    self.kind = kind
    self.verify = verify
  }
}

/// What a call says about who makes it.
struct Credentials: Sendable {
  /// Empty: none was sent.
  var token: [UInt8]
  /// The entry that gave a simple token; until it is applied the token is not known here.
  var tokenIndex = LogIndex.zero
  /// What a signed token says; nil when it is not in order.
  var claims: TokenClaims?
  /// Empty: no certificate.
  var commonName: [UInt8]
}

/// Something that is done once it is known who asks for it.
struct Held {
  enum Work {
    /// A message of a method, or of a stream, that has requirements of its own.
    case message([UInt8])
    case proposal(Proposal.RequestKind, [UInt8])
    case query(Query.Kind)
    /// A proposal whose call is over.
    case orphan(Proposal.RequestKind, [UInt8], Credentials?)
  }

  var call: CallID
  var work: Work
}

/// Requests on their way past the guard, and what the guard remembers.
struct AccessQueue {
  /// What waits for the entry that gave its token.
  enum Early {
    case read(Read)
    case held(Held, until: UInt64)
  }

  var waiting: [Held] = []
  var early: [(index: LogIndex, item: Early)] = []
  /// Who asks, or why that is refused.
  var identified: [(held: Held, who: Principal, failure: Failure?)] = []
  /// Simple tokens used since the last report, each once.
  var usedTokens: [[UInt8]] = []
  var isUsed: Set<[UInt8]> = []
  /// Signed tokens that were found in order.
  var verified: [[UInt8]: TokenClaims] = [:]

  var count: Int { waiting.count + early.count }

  mutating func use(_ token: [UInt8]) {
    if isUsed.insert(token).inserted { usedTokens.append(token) }
  }
}

/// What a method asks of who calls it, before it is looked at any further; what the log carries is
/// checked again when it is applied.
enum Requirement {
  case nothing, identity, root
}

extension Method {
  /// As etcd 3.5.33's API demands.
  func requirement(_ message: RawSpan) -> Requirement {
    switch self {
    case .leaseGrant, .leaseRevoke, .leaseTimeToLive, .leaseLeases, .memberList, .status, .lock,
      .campaign:
      return .identity
    case .alarm:
      guard let numbers = try? Numbers(whole: message) else { return .root }
      return numbers[1] == 0 ? .identity : .root
    case .compact, .memberAdd, .memberRemove, .memberUpdate, .memberPromote, .defragment, .hash,
      .hashKV, .snapshot, .moveLeader, .downgrade:
      return .root
    // These cost a hash, which nobody but root is to cause.
    case .userAdd, .userChangePassword: return .root
    default: return .nothing
    }
  }

  /// Whether etcd hands out its own error where it should be mapped for clients.
  var tellsOwnErrors: Bool {
    switch self {
    case .defragment, .hash, .hashKV, .snapshot: true
    default: false
    }
  }
}

extension Failure {
  /// The error as etcd's auth store words it.
  static func unmapped(_ failure: Failure) -> Failure {
    switch failure {
    case .userEmpty: Failure(.unknown, "auth: user name is empty")
    case .userNotFound: Failure(.unknown, "auth: user not found")
    case .permissionDenied: Failure(.unknown, "auth: permission denied")
    case .invalidToken: Failure(.unknown, "auth: invalid auth token")
    default: failure
    }
  }

  /// Why a watch is refused, as etcd says it: code and text in one.
  var cancelReason: [UInt8] {
    let shown: Failure =
      switch self {
      case .invalidToken, .oldAuthRevision, .userEmpty: self
      default: .permissionDenied
      }
    let code =
      switch shown.code {
      case .unauthenticated: "Unauthenticated"
      case .invalidArgument: "InvalidArgument"
      default: "PermissionDenied"
      }
    return [UInt8]("rpc error: code = \(code) desc = \(shown.text)".utf8)
  }
}
