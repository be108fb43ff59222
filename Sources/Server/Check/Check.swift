internal import Platform

/// `martlet check`: verifies what is stored and says what is wrong and where, while no server uses
/// it. Changes nothing unless asked to repair.
public enum Check {
  public static let usage = """
    Usage: martlet check [--repair] [--wal-dir <dir>] <data-dir>
           martlet check <snapshot-file>
      Verifies a stopped member's data directory: the log, the snapshot files, the store's pages
      and rows, and whether they belong together. Prints a line for each part and for each fault.
      Of a snapshot file: the checksum behind it, its pages, its rows.
      --repair    does what is safe: cuts off a record that a power loss tore at the very end of
                  the log, and removes files that an interrupted write, or an earlier repair, left
      --wal-dir   where the log is, when the server is told so too
    Ends with 0 when nothing is wrong, 1 when something is, 2 when the line cannot be read.

    """

  /// Runs the command with the words after `check`; returns its exit status.
  public static func run(_ arguments: [String]) -> Int32 {
    var paths: [String] = []
    var repairs = false
    var wal: String?
    var words = arguments[...]
    while let word = words.popFirst() {
      switch word {
      case "--wal-dir", "-wal-dir": wal = words.popFirst() ?? ""
      case _ where word.hasPrefix("--wal-dir="): wal = String(word.dropFirst(10))
      case "--repair", "-repair": repairs = true
      case "--help", "-help", "-h":
        Console.write(usage)
        return 0
      case _ where word.hasPrefix("-"):
        Console.write("unknown flag '\(word)'\n\(usage)", toError: true)
        return 2
      default: paths.append(word)
      }
    }
    guard paths.count == 1, !paths[0].isEmpty, wal != "" else {
      Console.write("one data directory or snapshot file is needed\n\(usage)", toError: true)
      return 2
    }
    if FileSystem.isFile(paths[0]) {
      var checker = SnapshotChecker(path: paths[0])
      checker.run()
      checker.report.end()
      return checker.report.faults == 0 ? 0 : 1
    }
    var checker = Checker(DataDirectory(root: paths[0], wal: wal ?? ""), repairs: repairs)
    checker.run()
    return checker.report.faults == 0 ? 0 : 1
  }
}
