internal import Auth

/// A refusal as clients see it: gRPC's code and etcd's text, both part of the contract.
public struct Failure: Error, Hashable, Sendable {
  /// gRPC's status codes by number.
  public enum Code: UInt8, Sendable {
    case cancelled = 1, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists
    case permissionDenied, resourceExhausted, failedPrecondition, aborted, outOfRange
    case unimplemented, internalError, unavailable, dataLoss, unauthenticated
  }

  public var code: Code
  public var text: String

  public init(_ code: Code, _ text: String) {
    self.code = code
    self.text = text
  }
}

extension Failure {
  // Keys and transactions. etcd: api/v3rpc/rpctypes/error.go.
  public static let emptyKey = Failure(.invalidArgument, "etcdserver: key is not provided")
  public static let keyNotFound = Failure(.invalidArgument, "etcdserver: key not found")
  public static let valueProvided = Failure(.invalidArgument, "etcdserver: value is provided")
  public static let leaseProvided = Failure(.invalidArgument, "etcdserver: lease is provided")
  public static let tooManyOperations = Failure(
    .invalidArgument, "etcdserver: too many operations in txn request")
  public static let duplicateKey = Failure(
    .invalidArgument, "etcdserver: duplicate key given in txn request")
  public static let compacted = Failure(
    .outOfRange, "etcdserver: mvcc: required revision has been compacted")
  public static let futureRevision = Failure(
    .outOfRange, "etcdserver: mvcc: required revision is a future revision")
  public static let noSpace = Failure(
    .resourceExhausted, "etcdserver: mvcc: database space exceeded")
  public static let corrupt = Failure(.dataLoss, "etcdserver: corrupt cluster")
  public static let tooLarge = Failure(.invalidArgument, "etcdserver: request is too large")
  /// grpc-go: `encode`'s caller in `Server.sendResponse`.
  public static func answerTooLarge(_ count: Int, _ most: Int) -> Failure {
    Failure(
      .resourceExhausted, "grpc: trying to send message larger than max (\(count) vs. \(most))")
  }
  public static let tooMany = Failure(.resourceExhausted, "etcdserver: too many requests")

  // Leases.
  public static let leaseNotFound = Failure(.notFound, "etcdserver: requested lease not found")
  public static let leaseExists = Failure(
    .failedPrecondition, "etcdserver: lease already exists")
  public static let leaseTTLTooLarge = Failure(.outOfRange, "etcdserver: too large lease TTL")
  public static let notPrimary = Failure(.unknown, "not a primary lessor")

  // Members.
  public static let memberExists = Failure(
    .failedPrecondition, "etcdserver: member ID already exist")
  public static let peerURLExists = Failure(
    .failedPrecondition, "etcdserver: Peer URLs already exists")
  public static let notEnoughStarted = Failure(
    .failedPrecondition,
    "etcdserver: re-configuration failed due to not enough started members")
  public static let unhealthy = Failure(.unavailable, "etcdserver: unhealthy cluster")
  public static let badMemberURLs = Failure(
    .invalidArgument, "etcdserver: given member URLs are invalid")
  public static let memberNotFound = Failure(.notFound, "etcdserver: member not found")
  public static let memberNotLearner = Failure(
    .failedPrecondition, "etcdserver: can only promote a learner member")
  public static let learnerNotReady = Failure(
    .failedPrecondition,
    "etcdserver: can only promote a learner member which is in sync with leader")
  public static let tooManyLearners = Failure(
    .failedPrecondition, "etcdserver: too many learner members in cluster")
  public static let notSupportedForLearner = Failure(
    .unavailable, "etcdserver: rpc not supported for learner")

  // Leadership and time.
  public static let noLeader = Failure(.unavailable, "etcdserver: no leader")
  public static let notLeader = Failure(.failedPrecondition, "etcdserver: not leader")
  public static let leaderChanged = Failure(.unavailable, "etcdserver: leader changed")
  public static let badTransferee = Failure(
    .failedPrecondition, "etcdserver: bad leader transferee")
  public static let stopped = Failure(.unavailable, "etcdserver: server stopped")
  public static let timedOut = Failure(.unavailable, "etcdserver: request timed out")
  public static let timedOutByLeader = Failure(
    .unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
  public static let deadlineExceeded = Failure(.deadlineExceeded, "context deadline exceeded")

  // Downgrade.
  public static let clusterVersionUnavailable = Failure(
    .unavailable, "etcdserver: cluster version not found during downgrade")
  public static let downgradeFormat = Failure(
    .invalidArgument, "etcdserver: wrong downgrade target version format")
  public static let downgradeTarget = Failure(
    .invalidArgument, "etcdserver: invalid downgrade target version")
  public static let downgradeInProgress = Failure(
    .failedPrecondition, "etcdserver: cluster has a downgrade job in progress")
  public static let noDowngrade = Failure(
    .failedPrecondition, "etcdserver: no inflight downgrade job")

  // Auth.
  public static let rootUserMissing = Failure(
    .failedPrecondition, "etcdserver: root user does not exist")
  public static let rootRoleMissing = Failure(
    .failedPrecondition, "etcdserver: root user does not have root role")
  public static let userExists = Failure(
    .failedPrecondition, "etcdserver: user name already exists")
  public static let userEmpty = Failure(.invalidArgument, "etcdserver: user name is empty")
  public static let userNotFound = Failure(
    .failedPrecondition, "etcdserver: user name not found")
  public static let roleExists = Failure(
    .failedPrecondition, "etcdserver: role name already exists")
  public static let roleEmpty = Failure(.invalidArgument, "etcdserver: role name is empty")
  public static let roleNotFound = Failure(
    .failedPrecondition, "etcdserver: role name not found")
  /// Martlet's own.
  public static let nameTooLong = Failure(
    .invalidArgument,
    "etcdserver: a user or role name has at most \(AuthStore.Limits.nameBytes) bytes")
  public static let authFailed = Failure(
    .invalidArgument, "etcdserver: authentication failed, invalid user ID or password")
  public static let noPasswordUser = Failure(
    .unknown, "auth: authentication failed, password was given for no password user")
  public static let permissionNotGiven = Failure(
    .invalidArgument, "etcdserver: permission not given")
  public static let permissionDenied = Failure(
    .permissionDenied, "etcdserver: permission denied")
  public static let roleNotGranted = Failure(
    .failedPrecondition, "etcdserver: role is not granted to the user")
  public static let permissionNotGranted = Failure(
    .failedPrecondition, "etcdserver: permission is not granted to the role")
  public static let authNotEnabled = Failure(
    .failedPrecondition, "etcdserver: authentication is not enabled")
  public static let invalidToken = Failure(
    .unauthenticated, "etcdserver: invalid auth token")
  public static let invalidAuthManagement = Failure(
    .invalidArgument, "etcdserver: invalid auth management")
  public static let oldAuthRevision = Failure(
    .invalidArgument, "etcdserver: revision of auth store is old")

  public static let malformed = Failure(.internalError, "grpc: failed to unmarshal the request")
  public static let unknownMethod = Failure(.unknown, "etcdserver: unknown method")
}
