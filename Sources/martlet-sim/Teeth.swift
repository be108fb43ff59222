import Glibc
import Simulator

/// Puts each known bug into the members and counts the seeds until it is found.
enum Teeth {
  static let seedsMax: UInt64 = 2000

  static func run(only: PlantedBug?) -> Bool {
    let bugs = only.map { [$0] } ?? PlantedBug.allCases
    var isComplete = true
    var at = 0
    print("| planted bug | seeds | found by |\n|---|---|---|")
    while at < bugs.count {
      let batch = bugs[at..<min(at + Campaign.jobs, bugs.count)]
      at += batch.count
      var workers = batch.map { Campaign.Worker(first: 1, count: seedsMax, step: 1, plant: $0) }
      fflush(nil)
      for (place, bug) in workers.indices.map({ ($0, batch[batch.startIndex + $0]) }) {
        let tally = workers[place].finish()
        guard let failure = tally.failures.first else {
          isComplete = false
          print("| \(bug.rawValue) | not in \(tally.seeds) | |")
          continue
        }
        print("| \(bug.rawValue) | \(tally.seeds) | \(reason(failure)) |")
      }
    }
    return isComplete
  }

  private static func reason(_ failure: String) -> String {
    if let trap = failure.firstRange(of: "TRAP ") {
      let text = failure[trap.upperBound...]
      return "trap: "
        + (text.firstRange(of: "rror: ").map { String(text[$0.upperBound...]) } ?? String(text))
    }
    guard let found = failure.firstRange(of: "VIOLATION ") else { return failure }
    let text = failure[found.upperBound...]
    return String(text.prefix { $0 != ":" })
  }
}
