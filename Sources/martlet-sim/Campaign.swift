import Glibc
import Simulator

/// Many seeds, over processes of this program: a trap ends one of them, not the campaign.
enum Campaign {
  struct Tally {
    var seeds = 0
    var virtualSeconds = 0.0
    var faults = 0
    var answers = 0
    var failures: [String] = []

    var virtualMinutes: Int { Int(virtualSeconds / 60) }

    mutating func add(_ other: Tally) {
      seeds += other.seeds
      virtualSeconds += other.virtualSeconds
      faults += other.faults
      answers += other.answers
      failures += other.failures
    }
  }

  static let jobs = max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))

  static func line(_ report: Report) -> String {
    let hex = String(report.unseed, radix: 16)
    let end = report.violation.map { "VIOLATION \($0.invariant): \($0.text)" } ?? "ok"
    return "seed \(report.seed) unseed \(hex) faults \(report.faults) entries \(report.entries) "
      + "answers \(report.answers) watched \(report.watchEvents) locks \(report.locks) "
      + "hashes \(report.hashes) \(end)"
  }

  /// Runs seeds one after another, saying which before each: that of a trap is then known.
  static func work(first: UInt64, count: UInt64, step: UInt64, plant: PlantedBug?) {
    for number in 0..<count {
      let seed = first + number * step
      print("begin \(seed)")
      fflush(nil)
      let report = Simulation.run(seed: seed, plant: plant, isTraced: false)
      if seed % 50 == 0, plant == nil {
        let again = Simulation.run(seed: seed, plant: nil, isTraced: false)
        if again.unseed != report.unseed {
          print("fail seed \(seed) VIOLATION determinism: a second run was another one")
          continue
        }
      }
      if report.violation != nil {
        print("fail \(line(report))")
        if plant != nil { return }
      } else {
        let virtual = Double(report.virtualNanoseconds) / 1e9
        print("ok \(virtual) \(report.faults) \(report.answers)")
      }
    }
  }

  /// A worker process under way.
  @safe struct Worker {
    var first: UInt64
    var count: UInt64
    var step: UInt64
    var plant: PlantedBug?
    private var pipe: UnsafeMutablePointer<FILE>?

    init(first: UInt64, count: UInt64, step: UInt64, plant: PlantedBug?) {
      self.first = first
      self.count = count
      self.step = step
      self.plant = plant
      start()
    }

    private mutating func start() {
      let program = CommandLine.arguments[0]
      let option = plant.map { " --plant \($0.rawValue)" } ?? ""
      // A trap's own text is one line; the stack is had by running the seed by itself.
      unsafe pipe = popen(
        "SWIFT_BACKTRACE=enable=no '\(program)' worker \(first) \(count) \(step)\(option) 2>&1", "r"
      )
    }

    /// Reads all of its output, begins again behind a seed that ended in a trap.
    mutating func finish() -> Tally {
      var tally = Tally()
      while true {
        var seed: UInt64?
        var trap = ""
        while let text = readLine() {
          let words = text.split(separator: " ")
          switch words.first {
          case "begin": seed = UInt64(words[1])
          case "ok":
            tally.seeds += 1
            tally.virtualSeconds += Double(words[1]) ?? 0
            tally.faults += Int(words[2]) ?? 0
            tally.answers += Int(words[3]) ?? 0
            seed = nil
          case "fail":
            tally.seeds += 1
            fail(String(text.dropFirst(5)), &tally)
            seed = nil
          default: if trap.isEmpty { trap = text }
          }
        }
        unsafe pclose(pipe)
        unsafe pipe = nil
        guard let seed else { return tally }
        tally.seeds += 1
        fail("seed \(seed) TRAP \(trap)", &tally)
        let done = (seed - first) / step + 1
        guard done < count, plant == nil else { return tally }
        first = seed + step
        count -= done
        start()
      }
    }

    /// A failure is told at once: a campaign may be long.
    private func fail(_ text: String, _ tally: inout Tally) {
      tally.failures.append(text)
      guard plant == nil else { return }
      print(text)
      fflush(nil)
    }

    private func readLine() -> String? {
      guard let pipe = unsafe pipe else { return nil }
      var line: [UInt8] = []
      while true {
        let byte = unsafe getc(pipe)
        if byte == EOF { return line.isEmpty ? nil : String(decoding: line, as: UTF8.self) }
        if byte == 10 { return String(decoding: line, as: UTF8.self) }
        line.append(UInt8(truncatingIfNeeded: byte))
      }
    }
  }

  static func tally(first: UInt64, count: UInt64) -> Tally {
    let jobs = UInt64(jobs)
    var workers: [Worker] = []
    for job in 0..<min(jobs, count) {
      workers.append(
        Worker(
          first: first + job, count: (count - job + jobs - 1) / jobs, step: jobs, plant: nil))
    }
    var tally = Tally()
    for at in workers.indices { tally.add(workers[at].finish()) }
    return tally
  }

  static func run(first: UInt64, count: UInt64) -> Bool {
    let start = seconds()
    let tally = tally(first: first, count: count)
    print(
      "\(tally.seeds) seeds, \(tally.failures.count) failed; \(tally.virtualMinutes) virtual minutes, "
        + "\(tally.faults) faults, \(tally.answers) answers in \(Int(seconds() - start)) s")
    return tally.failures.isEmpty && tally.seeds == Int(count)
  }

  static func soak(first: UInt64) {
    let start = seconds()
    var next = first
    var total = Tally()
    while true {
      let count = UInt64(jobs * 20)
      let tally = tally(first: next, count: count)
      next += count
      total.add(tally)
      let minutes = (seconds() - start) / 60
      print(
        "\(total.seeds) seeds, \(Int(Double(total.seeds) / minutes)) a minute; "
          + "\(total.virtualMinutes / 60) virtual hours, \(total.faults) faults, "
          + "\(total.failures.count) failures")
      fflush(nil)
    }
  }
}
