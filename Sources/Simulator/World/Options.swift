internal import Basics

/// What one simulation is made of. Times in nanoseconds of virtual time.
struct Options {
  var seed: UInt64
  var members = 3
  var registerClients = 3
  var readers = 2
  var leaseClients = 2
  var watchClients = 2
  /// How long faults last; how long the healed cluster then has to recover, to make progress,
  /// and to come to rest.
  var safetyTime: UInt64 = 10_000_000_000
  var recoveryTime: UInt64 = 6_000_000_000
  var livenessTime: UInt64 = 2_000_000_000
  var quietTime: UInt64 = 3_000_000_000
  /// Between two faults, on average; 0: none.
  var faultInterval: UInt64 = 1_000_000_000
  var thinkTime: UInt64 = 30_000_000
  var keys = 4

  // Raft.
  var tick: UInt64 = 100_000_000
  var electionTicks = 10
  /// How long a request waits for a leader.
  var requestTime: UInt64 { 5_000_000_000 + 2 * tick * UInt64(electionTicks) }
  var preVote = true
  var checkQuorum = true
  var messageBytesMax = 1 << 20
  var inflightCountMax = 512
  var applyingBytesMax = 64 << 20

  // Log and snapshots.
  var snapshotCount: UInt64 = 10_000
  var catchUpEntries: UInt64 = 5000
  var segmentBytes = 64 << 10
  var segmentsKept = 5
  var snapshotsKept = 5

  // Store.
  var batchDelay: UInt64 = 100_000_000
  var batchOperationsMax = 10_000
  var compactionKeysPerStep = 1000
  var leaseCheckpoint: UInt64?

  // Watch.
  var watchProgress: UInt64 = 600_000_000_000
  var watchQueuedBytes = 4 << 20
  var watchRevisions = 1000
  var catchUpBytes = 4 << 20

  // The world.
  var network = Network.Settings(
    delayMin: 100_000, delayMax: 1_000_000, lost: 0, repeated: 0, delayed: 0, isOrdered: true)
  var syncMin: UInt64 = 200_000
  var syncMax: UInt64 = 4_000_000
  /// Out of a thousand wakes of a thread, how many take long.
  var slowWakes = 0
  /// How far clocks run apart, at most.
  var clockDrift: Int64 = 0
  var faults = Faults()

  /// Which faults there are; weights, 0 for none.
  struct Faults {
    var kill = 0
    var powerLoss = 0
    var failingDisk = 0
    var fullDisk = 0
    var slowDisk = 0
    var pause = 0
    var partition = 0
    var oneWay = 0
    var clog = 0
    var transfer = 0
    var compaction = 0
    var membership = 0
    var bitFlip = 0
    var clock = 0
    var restartAll = 0
  }
}

/// Draws the options of a seed, so that each run has other faults, sizes and times: rare
/// combinations come up because many faults are often switched off. Groce et al., Swarm Testing.
enum Swarm {
  static func options(seed: UInt64) -> Options {
    var random = Random(seed: seed ^ 0x5357_4152_4d00)
    var options = Options(seed: seed)
    let sizes = [1, 3, 3, 3, 3, 3, 3, 5]
    options.members = sizes[random.next(below: sizes.count)]
    options.thinkTime = [10_000_000, 30_000_000, 80_000_000][random.next(below: 3)]
    options.keys = 1 + random.next(below: 6)
    drawRaft(&options, &random)
    drawStorage(&options, &random)
    drawNetwork(&options, &random)
    drawFaults(&options, &random)
    return options
  }

  private static func drawRaft(_ options: inout Options, _ random: inout Random) {
    options.preVote = !random.chance(1, in: 4)
    options.checkQuorum = options.preVote || !random.chance(1, in: 4)
    options.electionTicks = [3, 5, 10][random.next(below: 3)]
    if random.chance(1, in: 3) { options.messageBytesMax = [1, 200][random.next(below: 2)] }
    if random.chance(1, in: 3) { options.inflightCountMax = 1 + random.next(below: 8) }
    if random.chance(1, in: 3) { options.applyingBytesMax = 1 + random.next(below: 2000) }
  }

  private static func drawStorage(_ options: inout Options, _ random: inout Random) {
    options.snapshotCount = [5, 20, 100, 10_000][random.next(below: 4)]
    options.catchUpEntries = [0, 3, 20, 5000][random.next(below: 4)]
    options.segmentBytes = [2 << 10, 8 << 10, 64 << 10][random.next(below: 3)]
    options.segmentsKept = random.next(below: 3)
    options.snapshotsKept = 1 + random.next(below: 3)
    options.batchDelay =
      [1_000_000, 30_000_000, 100_000_000, 1_000_000_000][
        random.next(below: 4)]
    options.batchOperationsMax = [5, 100, 10_000][random.next(below: 3)]
    options.compactionKeysPerStep = [1, 3, 1000][random.next(below: 3)]
    if random.chance(1, in: 3) { options.leaseCheckpoint = 1_000_000_000 }
    if random.chance(1, in: 2) { options.watchProgress = 500_000_000 }
    if random.chance(1, in: 3) { options.watchQueuedBytes = 300 }
    if random.chance(1, in: 3) { options.watchRevisions = 1 + random.next(below: 3) }
    if random.chance(1, in: 3) { options.catchUpBytes = 100 }
    options.syncMax = [500_000, 5_000_000, 40_000_000][random.next(below: 3)]
  }

  private static func drawNetwork(_ options: inout Options, _ random: inout Random) {
    options.network.delayMax = [300_000, 2_000_000, 30_000_000][random.next(below: 3)]
    options.network.isOrdered = random.chance(1, in: 2)
    if random.chance(1, in: 2) { options.network.lost = random.next(below: 80) }
    if random.chance(1, in: 2) { options.network.repeated = random.next(below: 80) }
    if random.chance(1, in: 2) { options.network.delayed = random.next(below: 80) }
    if random.chance(1, in: 2) { options.slowWakes = random.next(below: 20) }
    if random.chance(1, in: 2) { options.clockDrift = Int64(random.next(below: 50_000)) }
  }

  private static func drawFaults(_ options: inout Options, _ random: inout Random) {
    options.faultInterval =
      [0, 400_000_000, 1_000_000_000, 2_000_000_000][
        random.next(below: 4)]
    func weight() -> Int { random.chance(1, in: 2) ? 0 : 1 + random.next(below: 4) }
    options.faults.kill = weight()
    options.faults.powerLoss = weight()
    options.faults.failingDisk = weight()
    options.faults.fullDisk = weight()
    options.faults.slowDisk = weight()
    options.faults.pause = weight()
    options.faults.partition = weight()
    options.faults.oneWay = weight()
    options.faults.clog = weight()
    options.faults.transfer = weight()
    options.faults.compaction = weight()
    options.faults.membership = weight()
    options.faults.bitFlip = random.chance(1, in: 4) ? 1 : 0
    options.faults.clock = weight()
    options.faults.restartAll = random.chance(1, in: 4) ? 1 : 0
  }
}
