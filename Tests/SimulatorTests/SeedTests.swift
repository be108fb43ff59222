import Simulator
import Testing

@Suite struct `A simulated cluster` {
  @Test func `runs the same way from the same seed`() {
    let one = Simulation.run(seed: 7, plant: nil, isTraced: false)
    let two = Simulation.run(seed: 7, plant: nil, isTraced: false)
    #expect(one.unseed == two.unseed && one.events == two.events)
    #expect(one.unseed != Simulation.run(seed: 8, plant: nil, isTraced: false).unseed)
  }

  @Test func `without faults serves everyone`() {
    let report = Simulation.runCalm(seed: 1, isTraced: false)
    #expect(report.violation == nil)
    #expect(report.answers > 300 && report.watchEvents > 100)
    #expect(report.locks > 0 && report.hashes > 0)
  }

  /// `martlet-sim teeth` tries all of them; these are found early.
  @Test(
    arguments: [
      (.voteNotPersisted, "durable before said"), (.voteTwice, "monotonic"),
      (.proposalRepeated, "linearizable"), (.readWithoutIndex, "linearizable"),
    ] as [(PlantedBug, String)])
  func `finds a planted bug`(plant: PlantedBug, invariant: String) {
    let report = Simulation.run(seed: 1, plant: plant, isTraced: false)
    #expect(report.violation?.invariant == invariant)
  }

  /// Seeds that found something in their time. What they draw changes with the simulator, so that
  /// each finding has a test of its own beside the module that was wrong.
  @Test(
    arguments: [
      // A stopped leader's answer to a keep-alive: LeaseTests.
      662
    ] as [UInt64])
  func `has no violation with seed`(seed: UInt64) {
    let report = Simulation.run(seed: seed, plant: nil, isTraced: false)
    #expect(report.violation == nil, "\(report.violation?.text ?? "")")
  }
}
