public import Raft

/// Every limit of the peer wire, by name. Times in nanoseconds, sizes in bytes.
public enum PeerLimits {
  /// A frame's declared length; what comes is kept as it comes, so that a frame costs what has
  /// arrived of it. etcd: `readBytesLimit`.
  public static let frameBytes = 512 << 20
  /// Entries in one frame of an append stream.
  public static let frameEntries = 1 << 20
  /// Bytes of encoded messages that may wait for the socket of an append stream.
  public static let appendBacklogBytes = 64 << 20
  /// The same for the stream of all other messages.
  public static let messageBacklogBytes = 16 << 20
  /// Messages that wait to be posted while there is no stream. etcd: `pipelineBufSize`.
  public static let pipelineMessages = 64
  /// The body of an answer that is read whole: a list of members, a lease's keys.
  public static let answerBytes = 64 << 20
  /// Senders that are no members yet and are answered all the same.
  public static let strangersMax = 16

  /// A stream that brings nothing, or takes nothing, for this long is broken.
  /// etcd: `DefaultConnReadTimeout`.
  public static let readTimeout: UInt64 = 5_000_000_000
  /// Between two signs of life on a stream that has nothing to say.
  public static let heartbeatInterval: UInt64 = readTimeout / 3
  /// Between two probes. etcd: `proberInterval`.
  public static let probeInterval: UInt64 = readTimeout - 1_000_000_000
  public static let connectTimeout: UInt64 = 3_000_000_000
  public static let answerTimeout: UInt64 = 7_000_000_000
  /// Before a stream that broke is dialled again: at first, and at most.
  public static let redialMin: UInt64 = 100_000_000
  public static let redialMax: UInt64 = 1_600_000_000
  /// Clocks further apart than this are warned about.
  public static let clockDriftMax: Int64 = 1_000_000_000
}

/// Why bytes from a peer are not what they should be.
public enum WireError: Error, Equatable, Sendable {
  case frameTooLarge
  case tooManyEntries
  /// The type of a frame on an append stream.
  case unknownFrame(UInt8)
  case malformedMessage
  /// An entry that is not the next one.
  case entryOutOfOrder
  /// A type that members do not send each other.
  case unknownMessage(Int32)
  /// What is not HTTP/1.1, or not an answer.
  case malformedAnswer
  case answerTooLarge
}

/// The two long-lived bodies by which a member sends to another.
public enum Channel: Int, CaseIterable, Sendable {
  /// Appends alone. etcd: `streamTypeMsgAppV2`.
  case append = 0
  /// All other messages. etcd: `streamTypeMessage`.
  case message = 1

  /// The path up to the ID of the member that asks.
  public var path: String {
    switch self {
    case .append: "/raft/stream/msgapp/"
    case .message: "/raft/stream/message/"
    }
  }
}

/// Which way a message takes.
public enum Route: Equatable, Sendable {
  case stream(Channel)
  /// A request of its own: `POST /raft`.
  case post
  /// A request of its own that carries the database too: `POST /raft/snapshot`.
  case snapshot
  /// Too much waits: the member counts as unreachable.
  case drop

  /// `append` and `message`: how many bytes wait on each stream, nil while it is not there;
  /// `posts`: how many messages wait to be posted. etcd: `peer.pick`.
  public static func of(
    _ message: Message, append: Int?, message other: Int?, posts: Int
  ) -> Route {
    switch message.body {
    case .snapshot: return .snapshot
    case .append:
      if let append { return append <= PeerLimits.appendBacklogBytes ? .stream(.append) : .drop }
    default: break
    }
    if let other {
      return other <= PeerLimits.messageBacklogBytes ? .stream(.message) : .drop
    }
    return posts < PeerLimits.pipelineMessages ? .post : .drop
  }
}
