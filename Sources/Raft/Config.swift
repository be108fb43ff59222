public import Basics

/// What a core is set up with; every limit of the module stands here.
public struct Config: Sendable {
  public var id: NodeID
  /// Ticks without a leader before an election; each wait is drawn from [n, 2n).
  public var electionTicks: Int
  public var heartbeatTicks: Int
  /// Ask before disturbing: a round of pre-votes precedes an election. Thesis §9.6.
  public var preVote: Bool
  /// A leader steps down when it hears no quorum for `electionTicks`; votes are refused while
  /// a leader is heard. Thesis §4.2.3, §6.2.
  public var checkQuorum: Bool
  /// Bytes of entries in one append; a single larger entry still goes.
  public var messageBytesMax: Int
  /// Appends on their way to one member.
  public var inflightCountMax: Int
  public var inflightBytesMax: Int
  /// Bytes of proposals that a leader holds uncommitted; one proposal always fits.
  public var uncommittedBytesMax: Int
  /// Bytes of committed entries given out and not yet applied; one entry always fits.
  public var applyingBytesMax: Int
  /// Reads that wait for their confirmation on a leader.
  public var pendingReadsMax: Int

  /// etcd's settings for a member: pre-vote and quorum checks on, 1 MiB and 512 appends in
  /// flight (`maxSizePerMsg`, `maxInflightMsgs`).
  public init(id: NodeID, electionTicks: Int, heartbeatTicks: Int) {
    self.id = id
    self.electionTicks = electionTicks
    self.heartbeatTicks = heartbeatTicks
    preVote = true
    checkQuorum = true
    messageBytesMax = 1 << 20
    inflightCountMax = 512
    inflightBytesMax = 64 << 20
    uncommittedBytesMax = 64 << 20
    applyingBytesMax = 64 << 20
    pendingReadsMax = 1 << 16
  }

  /// Bugs of old, put in by a simulation to see that it finds them. Looked at only where a rule
  /// has just refused something, so that keeping the rules costs nothing.
  @_spi(Simulation) public var sabotage: Sabotage = []

  @_spi(Simulation) public struct Sabotage: OptionSet, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// Counts a quorum for entries of terms before its own.
    public static let commitsOlderTerms = Sabotage(rawValue: 1)
    /// Votes for candidates whose logs lack entries.
    public static let votesForStaleLogs = Sabotage(rawValue: 2)
    /// Votes for every candidate of a term.
    public static let votesTwice = Sabotage(rawValue: 4)
    /// Takes entries whose predecessor does not match.
    public static let appendsAnywhere = Sabotage(rawValue: 8)
    /// A leader answers reads without asking a quorum whether it still leads.
    public static let readsUnconfirmed = Sabotage(rawValue: 16)
    /// A new leader answers reads before it knows what is committed.
    public static let readsEarly = Sabotage(rawValue: 32)
    /// Tells members to commit what they may not have.
    public static let heartbeatsPastMatch = Sabotage(rawValue: 64)
    /// A snapshot takes the place even of a log that has all of it and more.
    public static let snapshotsDropEntries = Sabotage(rawValue: 128)
  }

  var isValid: Bool {
    id != .none && heartbeatTicks > 0 && electionTicks > heartbeatTicks && messageBytesMax > 0
      && inflightCountMax > 0 && inflightBytesMax > 0 && uncommittedBytesMax > 0
      && applyingBytesMax > 0 && pendingReadsMax > 0
  }
}
