import Glibc
import Simulator

/// martlet-sim: runs simulated clusters. See docs/testing.md.
let usage = """
  martlet-sim run <seed> [--plant <bug>] [--quiet]   one seed, with its trace
  martlet-sim twice <seed>                           one seed twice: is it the same?
  martlet-sim seeds <first> <count>                  many seeds, over all processors
  martlet-sim soak [<first>]                         seeds until told to stop
  martlet-sim teeth [<bug>]                          is each planted bug found?
  """

func seconds() -> Double {
  var time = timespec()
  unsafe clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func fail(_ text: String) -> Never {
  print(text)
  exit(2)
}

let arguments = Array(CommandLine.arguments.dropFirst())

func number(_ place: Int, or other: UInt64?) -> UInt64 {
  if place < arguments.count, let value = UInt64(arguments[place]) { return value }
  guard let other else { fail(usage) }
  return other
}

func plantNamed() -> PlantedBug? {
  guard let at = arguments.firstIndex(of: "--plant"), at + 1 < arguments.count else { return nil }
  guard let plant = PlantedBug(rawValue: arguments[at + 1]) else { fail("no such bug") }
  return plant
}

switch arguments.first {
case "run":
  let seed = number(1, or: nil)
  let report = Simulation.run(
    seed: seed, plant: plantNamed(), isTraced: !arguments.contains("--quiet"))
  print(Campaign.line(report))
  exit(report.violation == nil ? 0 : 1)
case "twice":
  let seed = number(1, or: nil)
  let one = Simulation.run(seed: seed, plant: nil, isTraced: false)
  let two = Simulation.run(seed: seed, plant: nil, isTraced: false)
  print(Campaign.line(one))
  guard one.unseed == two.unseed else { fail("the second run was another one: \(two.unseed)") }
case "worker":
  Campaign.work(
    first: number(1, or: nil), count: number(2, or: nil), step: number(3, or: 1),
    plant: plantNamed())
case "seeds":
  let hasPassed = Campaign.run(first: number(1, or: nil), count: number(2, or: nil))
  exit(hasPassed ? 0 : 1)
case "soak": Campaign.soak(first: number(1, or: UInt64(seconds() * 1000) << 20))
case "teeth":
  let only = arguments.count > 1 ? PlantedBug(rawValue: arguments[1]) : nil
  exit(Teeth.run(only: only) ? 0 : 1)
default: fail(usage)
}
