/// When members compare their data with each other.
public struct CorruptionOptions: Sendable {
  public var checksAtStart: Bool
  /// In nanoseconds, between two comparisons of the newest revision; 0: none.
  public var interval: UInt64
  /// Whether what compactions find is hashed and compared.
  public var hashesCompactions: Bool
  public var compactionInterval: UInt64

  init(_ settings: Settings) {
    checksAtStart = settings.flag("experimental-initial-corrupt-check")
    interval = settings.duration("experimental-corrupt-check-time")
    hashesCompactions = settings.flag("experimental-compact-hash-check-enabled")
    compactionInterval = settings.duration("experimental-compact-hash-check-time")
  }
}
