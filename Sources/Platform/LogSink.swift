internal import Basics

/// A place that lines of a log go to, with a thread of its own: when the place blocks or fails,
/// lines are dropped and counted, and whoever writes one waits for nothing.
public final class LogSink: Sendable {
  public enum Target: Sendable {
    /// Standard output or error.
    case descriptor(Int32)
    case file(RotatingFile)
    case journal(Journal)
  }

  /// A line with its end, and syslog's priority for it.
  public struct Line: Sendable {
    var priority: UInt8
    var bytes: [UInt8]
    public init(priority: UInt8, bytes: [UInt8]) {
      self.priority = priority
      self.bytes = bytes
    }
  }

  public enum Limits {
    /// What waits for the place.
    public static let waitingBytes = 1 << 20
    public static let waitingLines = 4096
  }

  private struct State {
    var lines: [Line] = []
    var bytes = 0
    /// Lines that never reached the place, and those of them that nobody has been told of.
    var dropped = 0
    var untold = 0
    var isWriting = false
  }

  private let state = Lock(State())

  /// Starts the thread. `lossText`: a line that tells how many were dropped, written once the place
  /// takes lines again. `pack` compresses a file; it is called from another thread.
  public init(
    _ target: Target, lossText: @escaping @Sendable (Int) -> Line,
    pack: @escaping @Sendable (_ from: String, _ to: String) throws(Errno) -> Void
  ) {
    let tidier = Self.tidier(target, pack)
    Thread.detach("log") { [state] in
      var target = target
      var lines: [Line] = []
      var untold = 0
      while true {
        untold += state.wait(until: .max, { !$0.lines.isEmpty }) { state in
          lines.removeAll(keepingCapacity: true)
          swap(&lines, &state.lines)
          state.bytes = 0
          state.isWriting = true
          defer { state.untold = 0 }
          return state.untold
        }
        var lost = 0
        for line in lines where !Self.write(line, &target, tidier) { lost += 1 }
        untold += lost
        if untold > 0, Self.write(lossText(untold), &target, tidier) { untold = 0 }
        let failed = lost
        state.withLock { state in
          state.isWriting = false
          state.dropped += failed
        }
      }
    }
  }

  /// Takes a line, unless too much waits already.
  public func offer(_ line: Line) {
    let isFirst = state.withLock { state in
      guard state.lines.count < Limits.waitingLines,
        state.bytes + line.bytes.count <= Limits.waitingBytes
      else {
        state.dropped += 1
        state.untold += 1
        return false
      }
      state.lines.append(line)
      state.bytes += line.bytes.count
      return state.lines.count == 1
    }
    if isFirst { state.signal() }
  }

  /// Waits until all that was taken is written, at most until `deadline` (monotonic ns).
  public func flush(until deadline: UInt64) {
    while Clock.monotonic() < deadline,
      state.withLock({ !$0.lines.isEmpty || $0.isWriting })
    {
      Process.pause(milliseconds: 1)
    }
  }

  /// How many lines never reached the place.
  public var dropped: Int { state.withLock { $0.dropped } }

  /// False: the place does not take it.
  private static func write(
    _ line: Line, _ target: inout Target, _ tidier: Mailbox<Void>?
  ) -> Bool {
    do throws(Errno) {
      switch target {
      case .descriptor(let fd): try FileSystem.append(fd, line.bytes.rawSpan)
      case .file(var file):
        let isFull = try file.append(line.bytes, wall: Clock.wall())
        target = .file(file)
        if isFull { tidier?.post(()) }
      case .journal(let journal):
        do throws(Errno) {
          try journal.send(line.bytes, priority: line.priority)
        } catch {
          // As etcd does while the journal takes nothing.
          try FileSystem.append(2, line.bytes.rawSpan)
        }
      }
      return true
    } catch {
      return false
    }
  }

  /// What sees to files that were put by: compressing one takes its time.
  private static func tidier(
    _ target: Target, _ pack: @escaping @Sendable (String, String) throws(Errno) -> Void
  ) -> Mailbox<Void>? {
    guard case .file(let file) = target, file.policy != nil else { return nil }
    let box = Mailbox<Void>(limit: .max)
    box.post(())
    Thread.detach("log-files") {
      Thread.stepBack()
      var orders: [Void] = []
      while true {
        box.wait(until: .max, into: &orders)
        // What cannot be done now is tried again when the next file is full.
        try? file.tidy(wall: Clock.wall(), pack: pack)
      }
    }
    return box
  }
}
