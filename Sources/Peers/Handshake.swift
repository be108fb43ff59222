public import Basics

/// A version as far as members compare it.
public struct PeerVersion: Comparable, Sendable {
  public var major: UInt32
  public var minor: UInt32

  public init(major: UInt32, minor: UInt32) {
    self.major = major
    self.minor = minor
  }

  /// Reads `3.5.21`, with or without a suffix. etcd: semver.
  public init?(_ text: String) {
    let parts = text.prefix { $0 != "-" && $0 != "+" }
      .split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let major = UInt32(parts[0]), let minor = UInt32(parts[1]),
      UInt32(parts[2]) != nil
    else { return nil }
    self.init(major: major, minor: minor)
  }

  public static func < (a: PeerVersion, b: PeerVersion) -> Bool {
    (a.major, a.minor) < (b.major, b.minor)
  }
}

/// What a member is refused for, with the answer that says so. etcd: rafthttp/http.go.
public struct PeerRefusal: Error, Equatable, Sendable {
  public var status: Int
  public var text: String

  public init(_ status: Int, _ text: String) {
    self.status = status
    self.text = text
  }

  public static let incompatibleVersion = PeerRefusal(412, "incompatible version")
  public static let clusterMismatch = PeerRefusal(412, "cluster ID mismatch")
  public static let wrongReceiver = PeerRefusal(412, "to field mismatch")
  public static let removed = PeerRefusal(410, "removed member")
  public static let removedSender = PeerRefusal(
    403, "cannot process message from removed member")
  public static let unknownSender = PeerRefusal(404, "error sender not found")
  public static let badPath = PeerRefusal(404, "invalid path")
  public static let badSender = PeerRefusal(404, "invalid from")
  public static let badMessage = PeerRefusal(400, "error unmarshalling raft message")
  public static let notSnapshot = PeerRefusal(400, "wrong raft message type")
  public static let wrongMethod = PeerRefusal(405, "Method Not Allowed")
}

/// Who a member is to the others, and how it judges who they are.
public struct Handshake: Sendable {
  public var member: NodeID
  public var cluster: ClusterID
  /// Of the server, such as 3.5.21.
  public var version: String
  public var peerURLs: [String]

  /// The oldest cluster that is spoken with. etcd: `MinClusterVersion`.
  public static let minClusterVersion = "3.0.0"

  public init(member: NodeID, cluster: ClusterID, version: String, peerURLs: [String]) {
    precondition(PeerVersion(version) != nil)
    self.member = member
    self.cluster = cluster
    self.version = version
    self.peerURLs = peerURLs
  }

  public var clusterText: String { Self.text(cluster.rawValue) }

  /// An ID as it stands in headers and paths.
  public static func text(_ id: UInt64) -> String { Hex.text(id) }

  /// Reads such an ID. Go: `strconv.ParseUint`, base 16.
  public static func id(_ text: some StringProtocol) -> UInt64? {
    guard let first = text.utf8.first, first != 0x2b, first != 0x2d else { return nil }
    return UInt64(text, radix: 16)
  }

  /// The headers of a request to `peer`. `isStream`: etcd names the receiver there alone.
  public func headers(to peer: NodeID, isStream: Bool) -> [(name: String, value: String)] {
    var headers = [
      ("X-Server-From", Self.text(member.rawValue)),
      ("X-Server-Version", version),
      ("X-Min-Cluster-Version", Self.minClusterVersion),
      ("X-Etcd-Cluster-ID", clusterText),
    ]
    if isStream { headers.append(("X-Raft-To", Self.text(peer.rawValue))) }
    if !peerURLs.isEmpty { headers.append(("X-PeerURLs", peerURLs.joined(separator: ","))) }
    return headers.map { (name: $0.0, value: $0.1) }
  }

  /// Judges the headers of a request. A version that is not given is that of etcd 2.0.
  /// etcd: `checkClusterCompatibilityFromHeader`.
  public func check(_ header: (_ name: String) -> String?) throws(PeerRefusal) {
    func version(_ name: String) -> PeerVersion? {
      guard let text = header(name), !text.isEmpty else { return PeerVersion("2.0.0") }
      return PeerVersion(text)
    }
    guard let server = version("x-server-version"),
      let oldest = version("x-min-cluster-version"), let own = PeerVersion(self.version),
      let ownOldest = PeerVersion(Self.minClusterVersion), server >= ownOldest, oldest <= own
    else { throw .incompatibleVersion }
    guard header("x-etcd-cluster-id") == clusterText else { throw .clusterMismatch }
  }

  /// Which stream a path asks for, and for whom; after `check`. etcd: `streamHandler`.
  public func stream(
    _ path: String
  ) throws(PeerRefusal) -> (channel: Channel, from: NodeID) {
    guard let channel = Channel.allCases.first(where: { path.hasPrefix($0.path) }) else {
      throw .badPath
    }
    guard let from = Self.id(path.dropFirst(channel.path.count)) else { throw .badSender }
    return (channel, NodeID(from))
  }
}

/// What the answer to a request of ours means. etcd: `streamReader.dial`, `checkPostResponse`.
public enum PeerVerdict: Equatable, Sendable {
  case accepted
  /// This member was removed from the cluster: it has to stop.
  case removed
  case incompatibleVersion
  case clusterMismatch
  /// Refused for now.
  case refused(Int)

  public init(status: Int, body: [UInt8], isStream: Bool) {
    switch status {
    case 200 where isStream, 204 where !isStream: self = .accepted
    case 410 where isStream: self = .removed
    // etcd answers so too when it takes the receiver for somebody else.
    case 403
    where !isStream && String(decoding: body, as: UTF8.self).contains("removed member"):
      self = .removed
    case 412:
      var text = body[...]
      while let last = text.last, last == 10 { text.removeLast() }
      switch String(decoding: text, as: UTF8.self) {
      case PeerRefusal.incompatibleVersion.text: self = .incompatibleVersion
      case PeerRefusal.clusterMismatch.text: self = .clusterMismatch
      default: self = .refused(status)
      }
    default: self = .refused(status)
    }
  }
}
