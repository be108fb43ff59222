public import Basics

/// `GET /members/hashkv`: what a member asks another for its hash, and what that answers.
/// etcd: etcdserver/corrupt.go.
public enum HashExchange {
  public static let path = "/members/hashkv"
  public static let unreadable = PeerRefusal(400, "error unmarshalling request")
  public static let compacted = PeerRefusal(400, "mvcc: required revision has been compacted")
  public static let future = PeerRefusal(400, "mvcc: required revision is a future revision")

  /// The question for the hash at `revision`.
  public static func request(_ revision: Int64, cluster: ClusterID) -> PeerRequest {
    PeerRequest(
      "GET", path, headers: [("X-Etcd-Cluster-ID", Handshake.text(cluster.rawValue))],
      body: .bytes(Array("{\"revision\":\(revision)}".utf8), type: "application/json"))
  }

  /// The revision that a question is about; 0 for the newest.
  public static func revision(_ body: [UInt8]) throws(PeerRefusal) -> Int64 {
    guard let json = try? JSON.parse(body) else { throw unreadable }
    switch json {
    case .null: return 0
    case .object: break
    default: throw unreadable
    }
    guard let field = json["revision"], field != .null else { return 0 }
    guard let revision = whole(field) else { throw unreadable }
    return revision
  }

  /// The answer, given at the store's revision `current`.
  public static func answer(_ hash: StoreHash, current: Int64) -> [UInt8] {
    Array(
      ("{\"header\":{\"revision\":\(current)},\"hash\":\(hash.hash),"
        + "\"compact_revision\":\(hash.compactRevision)}").utf8)
  }

  fileprivate static func whole(_ json: JSON) -> Int64? {
    guard case .number(let digits) = json else { return nil }
    return Int64(String(decoding: digits, as: UTF8.self))
  }

  /// A field of an object that is left out when it is 0.
  fileprivate static func number(_ json: JSON?, _ name: String) -> Int64? {
    guard let field = json?[name] else { return 0 }
    return whole(field)
  }
}

/// The hash of a member's store at a revision.
public struct StoreHash: Equatable, Sendable {
  public var hash: UInt32
  public var revision: Int64
  /// Up to which history was compacted: hashes over different parts of it say nothing.
  public var compactRevision: Int64

  public init(hash: UInt32, revision: Int64, compactRevision: Int64) {
    self.hash = hash
    self.revision = revision
    self.compactRevision = compactRevision
  }
}

/// What another member answered when it was asked for its hash at a revision.
public enum HashAnswer: Equatable, Sendable {
  /// `current`: the revision that the member was at.
  case hash(StoreHash, current: Int64)
  /// The member has compacted the revision.
  case compacted
  /// The member has not come as far.
  case future
  case otherCluster
  /// None, or one that cannot be read; why.
  case missing(String)

  /// Reads an answer of HTTP. etcd: `HashByRev`.
  public init(status: Int, body: [UInt8], to revision: Int64) {
    let text = String(decoding: body, as: UTF8.self)
    switch status {
    case 200:
      guard let json = try? JSON.parse(body), case .object = json,
        let hash = HashExchange.number(json, "hash"), let short = UInt32(exactly: hash),
        let compactRevision = HashExchange.number(json, "compact_revision"),
        let current = HashExchange.number(json["header"], "revision")
      else {
        self = .missing("the answer cannot be read")
        return
      }
      self = .hash(
        StoreHash(hash: short, revision: revision, compactRevision: compactRevision),
        current: current)
    case 400 where text.contains(HashExchange.compacted.text): self = .compacted
    case 400 where text.contains(HashExchange.future.text): self = .future
    case 412 where text.contains(PeerRefusal.clusterMismatch.text): self = .otherCluster
    default: self = .missing("unknown error: \(text)")
    }
  }
}
