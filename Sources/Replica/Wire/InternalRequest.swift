public import API
public import Auth
internal import Basics

/// What a normal entry of the log asks for. etcd: `InternalRaftRequest`.
enum InternalRequest {
  case v2(Slice)
  case range(RangeRequestView)
  case put(PutRequestView)
  case deleteRange(DeleteRangeRequestView)
  case txn(Txn)
  case compaction(CompactionRequestView)
  case leaseGrant(Numbers)
  case leaseRevoke(Numbers)
  case leaseCheckpoint([(lease: LeaseID, remaining: Int64)])
  case alarm(Numbers)
  case clusterVersion(Slice)
  case memberAttributes(NodeID, name: Slice, clientURLs: [Slice])
  case downgrade(isEnabled: Bool, target: Slice)
  /// A request of the auth service, by its field, and where it lies.
  case auth(RaftRequestKind, Slice)
  /// Nothing that this version knows.
  case unknown

  /// Reads an entry's data. `id` is the request's, 0 when it has none; `who` made it.
  static func decode(
    _ bytes: RawSpan
  ) throws(DecodeError) -> (id: UInt64, who: Principal, request: InternalRequest) {
    let view = try InternalRaftRequestView(bytes)
    var who = Principal.none
    if !view.username.isEmpty || view.authRevision != 0 {
      who = Principal(
        user: bytes.extracting(view.username).copied(), revision: view.authRevision)
    }
    guard let kind = view.kind else { return (view.id, who, .unknown) }
    return (view.id, who, try read(kind, bytes, view.request))
  }

  private static func read(
    _ kind: RaftRequestKind, _ bytes: RawSpan, _ message: Slice
  ) throws(DecodeError) -> InternalRequest {
    switch kind {
    case .v2:
      // What cannot be read here is a v2 request without the envelope around it.
      _ = try V2Wire.decode(message, in: bytes)
      return .v2(message)
    case .range: return .range(try RangeRequestView(bytes, in: message))
    case .put: return .put(try PutRequestView(bytes, in: message))
    case .deleteRange: return .deleteRange(try DeleteRangeRequestView(bytes, in: message))
    case .txn: return .txn(try Txn(bytes, in: message))
    case .compaction: return .compaction(try CompactionRequestView(bytes, in: message))
    case .leaseGrant: return .leaseGrant(try Numbers(bytes, in: message))
    case .leaseRevoke: return .leaseRevoke(try Numbers(bytes, in: message))
    case .alarm: return .alarm(try Numbers(bytes, in: message))
    case .leaseCheckpoint:
      var checkpoints: [(lease: LeaseID, remaining: Int64)] = []
      for inner in try messages(1, bytes, message) {
        let numbers = try Numbers(bytes, in: inner)
        checkpoints.append((LeaseID(numbers.signed(1)), numbers.signed(2)))
      }
      return .leaseCheckpoint(checkpoints)
    case .clusterVersionSet:
      return .clusterVersion(try messages(1, bytes, message).last ?? .empty)
    case .clusterMemberAttrSet:
      let attributes = try messages(2, bytes, message).last ?? .empty
      return .memberAttributes(
        NodeID(try Numbers(bytes, in: message)[1]),
        name: try messages(1, bytes, attributes).last ?? .empty,
        clientURLs: try messages(2, bytes, attributes))
    case .downgradeInfoSet:
      return .downgrade(
        isEnabled: try Numbers(bytes, in: message)[1] != 0,
        target: try messages(2, bytes, message).last ?? .empty)
    default: return .auth(kind, message)
    }
  }

  /// The places of all length-delimited fields of that number.
  private static func messages(
    _ field: Int, _ bytes: RawSpan, _ message: Slice
  ) throws(DecodeError) -> [Slice] {
    var found: [Slice] = []
    var reader = ProtoReader(bytes, in: message)
    while let tag = try reader.nextTag() {
      if tag.field == field { found.append(try reader.bytes(tag)) } else { try reader.skip(tag) }
    }
    return found
  }
}

extension Proposal {
  /// A request for the log: its own bytes, with the ID by which the answer is found and the user
  /// who makes it.
  public init(
    _ kind: RequestKind, _ request: RawSpan, id: UInt64, by who: Principal = .none
  ) {
    var data: [UInt8] = []
    data.reserveCapacity(request.byteCount + who.user.count + 36)
    data.appendInternalRaftRequest(
      kind.field, request, id: id, username: who.user.rawSpan, authRevision: who.revision)
    self.init(id: id, data: data)
  }

  /// What may be proposed.
  public enum RequestKind: Sendable {
    case put, deleteRange, txn, compaction, leaseGrant, leaseRevoke, leaseCheckpoint, alarm
    case downgrade
    /// A request of the auth service, by its field.
    case auth(RaftRequestKind)

    var field: RaftRequestKind {
      switch self {
      case .put: .put
      case .deleteRange: .deleteRange
      case .txn: .txn
      case .compaction: .compaction
      case .leaseGrant: .leaseGrant
      case .leaseRevoke: .leaseRevoke
      case .leaseCheckpoint: .leaseCheckpoint
      case .alarm: .alarm
      case .downgrade: .downgradeInfoSet
      case .auth(let kind): kind
      }
    }
  }
}
