public import Basics

/// A file of zeros that becomes the next segment. A write into blocks that the file has already
/// changes no metadata, so that its sync is one write of the disk.
enum Spare: Equatable {
  case none
  /// Its owner has the path of a released segment to fill with zeros.
  case inMaking(String)
  case ready(String)

  var isReady: Bool { if case .ready = self { true } else { false } }
}

extension Log {
  /// Removes segments that hold nothing after `index`, but for the newest `keep` of those. One of
  /// them is kept to be the next segment when none is: its path is returned, for `zeroStep` to
  /// fill and `madeSpare` to hand back. It counts as no part of the log.
  @discardableResult
  public mutating func release(upTo index: LogIndex, keep: Int) throws(WALError) -> String? {
    var released = 0
    while released + 1 < segments.count, segments[released + 1].firstIndex <= index.rawValue {
      released += 1
    }
    var making: String?
    for _ in 0..<max(0, released - keep) {
      let path = directory + "/" + segments[0].name
      do throws(DiskError) {
        if spare == .none {
          let temporary = directory + "/spare.tmp"
          try disk.rename(path, to: temporary)
          // Under its old name it must not be found full of zeros after a crash.
          try disk.syncDirectory(directory)
          spare = .inMaking(temporary)
          making = temporary
        } else {
          try disk.remove(path)
        }
      } catch {
        throw .disk(error)
      }
      segments.removeFirst()
    }
    return making
  }

  /// The spare that `release` gave out is all zeros, durably; or could not be made.
  public mutating func madeSpare(_ isWhole: Bool) {
    guard case .inMaking(let path) = spare else { return }
    if isWhole {
      spare = .ready(path)
    } else {
      try? disk.remove(path)
      spare = .none
    }
  }

  /// Fills the next `Limits.zeroBytes` of a spare with zeros and makes them durable; for any
  /// thread. Returns where the next step begins, nil at the end.
  public static func zeroStep(
    _ disk: D, _ path: String, from offset: Int, segmentBytes: Int
  ) throws(DiskError) -> Int? {
    let file = try disk.open(path, creates: false)
    defer { disk.close(file) }
    if offset == 0, try disk.size(file) > segmentBytes {
      try disk.truncate(file, to: segmentBytes)
    }
    let count = min(Limits.zeroBytes, segmentBytes - offset)
    if count > 0 {
      try disk.write(file, at: offset, [UInt8](repeating: 0, count: count).rawSpan)
    }
    try disk.sync(file)
    return offset + count < segmentBytes ? offset + count : nil
  }
}
