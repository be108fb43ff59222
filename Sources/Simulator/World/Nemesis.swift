internal import Basics
internal import Raft

/// Deals out the misfortunes that the options allow, each for a while.
final class Nemesis {
  unowned let world: Simulation
  /// The host whose disk takes its time.
  private(set) var slowDisk: Int?
  private var slowUntil: UInt64 = 0
  private var cutUntil: UInt64 = 0
  /// The disk that is to fail soon after the host's start.
  private var failsAtStart: Int?
  private(set) var count = 0

  init(world: Simulation) { self.world = world }

  private enum Fault: CaseIterable {
    case kill, powerLoss, failingDisk, fullDisk, slowDisk, pause, partition, oneWay, clog
    case transfer, bitFlip, clock, restartAll
  }

  private func weight(_ fault: Fault) -> Int {
    let faults = world.options.faults
    switch fault {
    case .kill: return faults.kill
    case .powerLoss: return faults.powerLoss
    case .failingDisk: return faults.failingDisk
    case .fullDisk: return faults.fullDisk
    case .slowDisk: return faults.slowDisk
    case .pause: return faults.pause
    case .partition: return faults.partition
    case .oneWay: return faults.oneWay
    case .clog: return faults.clog
    case .transfer: return faults.transfer
    case .bitFlip: return faults.bitFlip
    case .clock: return faults.clock
    case .restartAll: return faults.restartAll
    }
  }

  // MARK: Time

  func begin() {
    if world.options.faultInterval > 0 { schedule() }
  }

  private func schedule() {
    let delay = UInt64(world.random.next(below: Int(world.options.faultInterval) * 2)) + 1
    world.queue.add(.nemesis, at: world.now + delay)
  }

  func act() {
    guard !world.isHealed else { return }
    schedule()
    if cutUntil > 0, cutUntil <= world.now {
      cutUntil = 0
      world.network.heal()
      world.note("the network is whole again")
    }
    if slowUntil <= world.now { slowDisk = nil }
    for host in world.hosts where host.fullUntil > 0 && host.fullUntil <= world.now {
      empty(host)
    }
    let total = Fault.allCases.reduce(0) { $0 + weight($1) }
    guard total > 0 else { return }
    var pick = world.random.next(below: total)
    for fault in Fault.allCases {
      pick -= weight(fault)
      if pick < 0 { return deal(fault) }
    }
  }

  /// Ends all faults for good.
  func heal() {
    world.network.heal()
    world.network.settings.lost = 0
    world.network.settings.repeated = 0
    world.network.settings.delayed = 0
    world.network.settings.delayMax = min(world.network.settings.delayMax, 5_000_000)
    slowDisk = nil
    failsAtStart = nil
    for host in world.hosts {
      host.pausedUntil = min(host.pausedUntil, world.now)
      host.disk.failingCall = nil
      host.disk.failsForGood = false
      empty(host)
    }
  }

  private var up: [Host] { world.hosts.filter { $0.state == .up && $0.process != nil } }

  private func anyUp() -> Host? {
    let hosts = up
    guard !hosts.isEmpty else { return nil }
    // The leader meets with more than its share.
    if let leader = world.leader, world.random.chance(1, in: 3) { return leader }
    return hosts[world.random.next(below: hosts.count)]
  }

  private func time(_ most: Int) -> UInt64 { UInt64(1 + world.random.next(below: most)) }

  private func deal(_ fault: Fault) {
    guard let host = anyUp() else { return }
    count += 1
    switch fault {
    case .kill: world.end(host, why: "killed", survives: true)
    case .powerLoss: powerLoss(host)
    case .restartAll:
      let power = world.random.chance(1, in: 2)
      for host in up {
        if power { powerLoss(host) } else { world.end(host, why: "killed", survives: true) }
      }
    case .failingDisk:
      let calls = 1 + world.random.next(below: 12)
      host.disk.failsForGood = world.random.chance(1, in: 2)
      if world.random.chance(1, in: 4) {
        failsAtStart = host.number
        world.end(host, why: "killed", survives: true)
      } else {
        host.disk.failingCall = host.disk.calls + calls
      }
      world.note("\(host.number)'s disk will fail")
    case .fullDisk: fill(host)
    case .slowDisk:
      slowDisk = host.number
      slowUntil = world.now + time(3_000_000_000)
      world.note("\(host.number)'s disk is slow")
    case .pause:
      let pause = world.random.chance(1, in: 4) ? time(6_000_000_000) : time(1_500_000_000)
      host.pausedUntil = max(host.pausedUntil, world.now + pause)
      world.note("\(host.number) pauses for \(pause / 1_000_000) ms")
    case .partition, .oneWay, .clog: disturbNetwork(fault)
    case .transfer:
      guard let target = anyUp() else { return }
      host.process?.post(.transfer(target.id))
    case .bitFlip: flip(host)
    case .clock:
      let most = Int(world.options.clockDrift)
      let rate = world.random.next(below: 2 * most + 1) - most
      host.setClock(partsPerMillion: Int64(rate), now: world.now)
    }
  }

  // MARK: Disks

  private func powerLoss(_ host: Host) {
    // A commit of the store that is under way may still have made it.
    if world.random.chance(1, in: 2) { host.process?.commitToBackend() }
    host.survival =
      world.random.chance(1, in: 3) ? .nothing : .byChance(Random(seed: world.random.next()))
    world.end(host, why: "lost its power", survives: false)
  }

  /// Log and store are on one disk or on two.
  private func fill(_ host: Host) {
    let which = world.random.next(below: 3)
    host.fullUntil = world.now + time(4_000_000_000)
    host.isLogFull = which > 0
    if which > 0 { host.disk.capacity = host.disk.bytesUsed + world.random.next(below: 4000) }
    if which < 2 { host.storeRoom = world.random.next(below: 4000) }
    world.note("\(host.number) has \(["no store", "no", "no log"][which]) space left soon")
  }

  /// There is room again.
  private func empty(_ host: Host) {
    host.fullUntil = 0
    host.isLogFull = false
    host.storeRoom = .max
    host.disk.capacity = .max
  }

  /// Called when a host starts.
  func armDisk(of host: Host) {
    if host.isLogFull {
      host.disk.capacity = host.disk.bytesUsed + world.random.next(below: 1000)
    }
    guard failsAtStart == host.number else { return }
    failsAtStart = nil
    host.disk.failingCall = host.disk.calls + 1 + world.random.next(below: 40)
  }

  /// Whether the cluster can do without the host for good.
  private func isDispensable(_ host: Host) -> Bool {
    let voters = world.hosts.filter { $0.isMember && !$0.isLearner }
    let whole = voters.filter { !$0.isLost && !$0.isDamaged && $0 !== host }
    return host.isLearner || whole.count > voters.count / 2
  }

  private func flip(_ host: Host) {
    guard isDispensable(host) else { return }
    let files = host.disk.paths(under: "/data").filter {
      $0.hasSuffix(".wal") || $0.hasSuffix(".snap")
    }
    guard !files.isEmpty else { return }
    world.end(host, why: "is about to find a flipped bit", survives: true)
    let path = files[world.random.next(below: files.count)]
    var bytes = host.disk.contents(path)
    // Behind the records there are only zeros, which mean nothing.
    let count = (bytes.lastIndex { $0 != 0 } ?? 0) + 1
    guard count > 1 else { return }
    bytes[world.random.next(below: count)] ^= 1 << UInt8(world.random.next(below: 8))
    host.disk.set(path, bytes)
    host.isDamaged = true
    world.note("\(host.number) has a flipped bit in \(path)")
  }

  // MARK: Network

  private func disturbNetwork(_ fault: Fault) {
    let hosts = world.hosts.filter { $0.state != .gone }
    guard hosts.count > 1 else { return }
    cutUntil = max(cutUntil, world.now + time(4_000_000_000))
    let isLeaderAlone = world.random.chance(1, in: 3)
    let side = hosts.map { host in
      isLeaderAlone ? host === world.leader : world.random.chance(1, in: 2)
    }
    for (a, one) in hosts.enumerated() {
      for (b, other) in hosts.enumerated() where a != b && side[a] != side[b] {
        switch fault {
        case .partition: world.network.cut(one.id, other.id)
        case .oneWay: if side[a] { world.network.cut(one.id, other.id) }
        default:
          world.network.clog(one.id, other.id, until: world.now + time(2_000_000_000))
        }
      }
    }
    let members = zip(hosts, side).filter(\.1).map { String($0.0.number) }
    world.note("\(fault) between \(members.joined(separator: " ")) and the others")
  }
}
