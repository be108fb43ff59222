public import Basics
internal import Raft

/// What a log holds, for one that only looks.
public struct LogSurvey: Sendable {
  public struct Place: Equatable, Sendable {
    public var file: String
    public var offset: Int
  }

  /// As `open` would give it, but for `repair`.
  public var recovered = Recovered()
  /// Paths of the segments, in their order.
  public var files: [String] = []
  /// Of the last entry or snapshot.
  public var lastIndex = LogIndex.zero
  /// Where the last record is torn; `open` cuts it off.
  public var torn: Place?

  /// The term of the entry at `index`; zero when the log does not have it.
  public func term(at index: LogIndex) -> Term {
    guard let first = recovered.entries.first?.index, index >= first,
      index.rawValue - first.rawValue < UInt64(recovered.entries.count)
    else { return .zero }
    return recovered.entries[Int(index.rawValue - first.rawValue)].term
  }
}

extension Log {
  /// Reads the log as `open` does, and changes nothing. `choose` gets the snapshots that the log
  /// confirms and says at which to start. Throws what `open` would throw.
  public static func survey(
    _ disk: D, directory: String, at choose: ([SnapshotMarker]) -> SnapshotMarker
  ) throws(WALError) -> LogSurvey {
    var reading = try LogReading(disk, directory)
    try reading.readAll()
    var survey = LogSurvey()
    survey.files = reading.segments.map { directory + "/" + $0.name }
    survey.lastIndex = reading.lastIndex
    if reading.torn != nil {
      survey.torn = LogSurvey.Place(file: reading.lastPath, offset: reading.end)
    }
    survey.recovered.metadata = reading.metadata
    survey.recovered.hardState = reading.state
    survey.recovered.markers = reading.confirmedMarkers()
    survey.recovered.entries = try reading.entries(after: choose(survey.recovered.markers))
    return survey
  }
}
