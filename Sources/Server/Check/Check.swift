internal import Platform

/// `martlet check`: verifies what is stored and says what is wrong and where, while no server uses
/// it. Changes nothing unless asked to repair.
public enum Check {
  public static let usage = """
    Usage: martlet check [--repair] <data-dir>
      Verifies a stopped member's data directory: the log, the snapshot files, the store's pages
      and rows, and whether they belong together. Prints a line for each part and for each fault.
      --repair   does what is safe: cuts off a record that a power loss tore at the very end of
                 the log, and removes files that an interrupted write, or an earlier repair, left
    Ends with 0 when nothing is wrong, 1 when something is, 2 when the line cannot be read.

    """

  /// Runs the command with the words after `check`; returns its exit status.
  public static func run(_ arguments: [String]) -> Int32 {
    var paths: [String] = []
    var repairs = false
    for word in arguments {
      switch word {
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
    guard paths.count == 1, !paths[0].isEmpty else {
      Console.write("one data directory is needed\n\(usage)", toError: true)
      return 2
    }
    var checker = Checker(root: paths[0], repairs: repairs)
    checker.run()
    return checker.faults == 0 ? 0 : 1
  }
}
