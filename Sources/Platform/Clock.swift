internal import Glibc

/// Readings of the system's clocks, in nanoseconds.
public enum Clock {
  /// Time that never goes back; its zero means nothing.
  public static func monotonic() -> UInt64 { read(CLOCK_MONOTONIC) }

  /// Time since 1970 in UTC.
  public static func wall() -> UInt64 { read(CLOCK_REALTIME) }

  private static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    unsafe clock_gettime(clock, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
