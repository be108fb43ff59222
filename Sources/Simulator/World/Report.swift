internal import Basics

/// What a run came to.
public struct Report: Sendable {
  public var seed: UInt64
  public var violation: Violation?
  /// A hash of everything that happened and of the generator's state: the same for the same seed.
  public var unseed: UInt64
  public var virtualNanoseconds: UInt64
  public var events: UInt64
  public var faults: Int
  public var answers: Int
  public var watchEvents: Int
  public var locks: Int
  public var hashes: Int
  public var entries: UInt64
}

extension Simulation {
  /// Runs the cluster that `seed` draws, with `plant` put into it if there is one.
  public static func run(seed: UInt64, plant: PlantedBug?, isTraced: Bool) -> Report {
    run(Swarm.options(seed: seed), plant: plant, isTraced: isTraced)
  }

  /// A calm cluster of three without any fault.
  public static func runCalm(seed: UInt64, isTraced: Bool) -> Report {
    var options = Options(seed: seed)
    options.faultInterval = 0
    return run(options, plant: nil, isTraced: isTraced)
  }

  private static func run(_ options: Options, plant: PlantedBug?, isTraced: Bool) -> Report {
    let world = Simulation(options: options, plant: plant, isTraced: isTraced)
    world.run()
    var hash = world.trace
    hash.add(world.random.next())
    let watched = world.clients.reduce(0) { $0 + (($1 as? WatchClient)?.eventCount ?? 0) }
    return Report(
      seed: options.seed, violation: world.violation, unseed: hash.hash,
      virtualNanoseconds: world.now, events: world.trace.eventCount, faults: world.nemesis.count,
      answers: world.checks.linearizability.answered, watchEvents: watched,
      locks: world.checks.locks.acquired, hashes: world.checks.hashes.count,
      entries: world.checks.committed.last.rawValue)
  }
}
