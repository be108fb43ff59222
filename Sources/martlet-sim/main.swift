import Simulator

let arguments = Array(CommandLine.arguments.dropFirst())
let from = UInt64(arguments.count > 1 ? arguments[1] : "1") ?? 1
let to = UInt64(arguments.count > 2 ? arguments[2] : "\(from)") ?? from
for seed in from...to {
  let report =
  arguments.first == "calm"
  ? Simulation.runCalm(seed: seed, isTraced: from == to)
  : Simulation.run(seed: seed, plant: nil, isTraced: from == to)
  print(report)
}
