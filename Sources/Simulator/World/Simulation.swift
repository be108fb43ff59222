internal import Basics
internal import MVCC
internal import Membership
internal import Raft
internal import Replica
internal import Services

/// What broke: the invariant's name and what was seen.
public struct Violation: Sendable {
  public var invariant: String
  public var text: String
  public var time: UInt64
}

/// A cluster, its clients and its misfortunes, on one thread, from one seed.
public final class Simulation {
  let options: Options
  let plant: PlantedBug?
  let cluster: ClusterID
  var random: Random
  var now: UInt64 = 0
  var queue = EventQueue()
  var trace: Trace
  var network: Network
  var hosts: [Host] = []
  let checks: Checks
  var clients: [Client] = []
  private(set) var nemesis: Nemesis!
  /// Whether the faults are over.
  private(set) var isHealed = false
  /// Whether the clients begin nothing new.
  private(set) var isQuiet = false
  private var membershipIndex = LogIndex.zero
  private var lastArrival: [UInt64] = []
  private var lastSent: [UInt64] = []
  public private(set) var violation: Violation?

  init(options: Options, plant: PlantedBug?, isTraced: Bool) {
    self.options = options
    self.plant = plant
    random = Random(seed: options.seed)
    trace = Trace(isPrinted: isTraced)
    network = Network(options.network)
    checks = Checks(options)
    var founders: [Membership.Member] = []
    for number in 0..<options.members { founders.append(Self.founder(number)) }
    cluster = clusterID(members: founders.map(\.id), digest: Self.digest)
    for (number, member) in founders.enumerated() {
      hosts.append(Host(number: number, member: member, founders: founders))
      queue.add(.start(host: number), at: UInt64(random.next(below: 5_000_000)))
    }
    checks.world = self
    nemesis = Nemesis(world: self)
    makeClients()
    queue.add(.check, at: 100_000_000)
    nemesis.begin()
  }

  /// Stands in for SHA-1: any function of the bytes does.
  static func digest(_ bytes: [UInt8]) -> [UInt8] {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    var random = Random(seed: hash)
    return (0..<20).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  }

  static func peerURL(_ number: Int) -> String { "http://10.0.0.\(number + 1):2380" }

  private static func founder(_ number: Int) -> Membership.Member {
    let urls = [peerURL(number)]
    let id = memberID(peerURLs: urls, token: "sim", addedAt: nil, digest: digest)
    return Membership.Member(
      id: id, name: "m\(number)", peerURLs: urls, clientURLs: ["http://10.0.0.\(number + 1):2379"],
      isLearner: false)
  }

  // MARK: For everyone

  func host(_ id: NodeID) -> Host? { hosts.first { $0.id == id } }

  /// For notes: the host's number, or a dash.
  func number(of id: NodeID) -> String { host(id).map { String($0.number) } ?? "-" }

  func note(_ text: @autoclosure () -> String) { trace.note(now, text()) }

  func violate(_ invariant: String, _ text: String) {
    guard violation == nil else { return }
    violation = Violation(invariant: invariant, text: text, time: now)
    note("VIOLATION \(invariant): \(text)")
  }

  func wakeDelay() -> UInt64 {
    if options.slowWakes > 0, !isHealed, random.chance(options.slowWakes, in: 1000) {
      return UInt64(random.next(below: 50_000_000))
    }
    return 1000 + UInt64(random.next(below: 40_000))
  }

  func syncDelay(_ host: Host) -> UInt64 {
    let spread = Int(options.syncMax - options.syncMin)
    let delay = options.syncMin + UInt64(random.next(below: spread))
    return host.number == nemesis.slowDisk ? delay * 40 : delay
  }

  // MARK: Messages

  func send(_ packet: Packet) {
    let message = packet.message
    if let host = host(message.from) { checks.sent(message, by: host) }
    var times = network.arrivals(sender(message), message.to, now: now, random: &random)
    if case .propose = message.body, times.count > 1 {
      // A stream does not give anything twice, and proposals travel by no other way.
      times.removeLast()
    }
    if times.isEmpty { lost(message) }
    for time in times { queue.add(.deliver(packet), at: time) }
  }

  /// A transfer request carries the target as its sender.
  private func sender(_ message: Message) -> NodeID { message.from }

  private func lost(_ message: Message) {
    guard let process = host(message.from)?.process else { return }
    if case .snapshot = message.body {
      process.post(.reported(message.to, isDelivered: false))
    } else if random.chance(1, in: 4) {
      process.post(.unreachable(message.to))
    }
  }

  private func deliver(_ packet: Packet) {
    let message = packet.message
    guard let host = host(message.to), let process = host.process else { return lost(message) }
    if case .snapshot(let snapshot) = message.body, let store = packet.store {
      let path = Paths.store(snapshot.metadata.index)
      do { try StoreContent.save(store, path, to: host.disk) } catch {
        // The sender is told so; the member goes on.
        note("\(host.number) cannot store a snapshot")
        return lost(message)
      }
      self.host(message.from)?.process?.post(.reported(message.to, isDelivered: true))
    }
    process.post(.message(message))
  }

  /// A request to another member, or its answer: over connections, so that it comes once or
  /// never.
  func send(_ event: Event, from: NodeID, to: NodeID) {
    guard let time = network.arrivals(from, to, now: now, random: &random).first else { return }
    queue.add(event, at: time)
  }

  // MARK: Clients

  /// Sends to a host as a client does: in order, on one connection. The call is lost when the
  /// host is down.
  func send(_ input: ClientInput, to host: Host, from client: Client, _ call: CallID) {
    let delay = 20_000 + UInt64(random.next(below: 30_000))
    let time = max(now + delay, lastSent[client.number] + 1)
    lastSent[client.number] = time
    queue.add(.toServer(host: host.number, run: host.run, input, call), at: time)
  }

  func reply(_ event: ClientEvent, from process: Process) {
    let call: CallID
    switch event {
    case .message(let id, _), .finished(let id, _), .lost(let id, _): call = id
    }
    toClient(call, event)
  }

  private func toClient(_ call: CallID, _ event: ClientEvent) {
    let client = Int(call.rawValue & 0xffff_ffff) / Client.lines
    let time = max(now + 20_000 + UInt64(random.next(below: 200_000)), lastArrival[client] + 1)
    lastArrival[client] = time
    queue.add(.toClient(client, event), at: time)
  }

  func add(_ client: Client) {
    clients.append(client)
    lastArrival.append(0)
    lastSent.append(0)
    client.wake(after: UInt64(random.next(below: 100_000_000)))
  }

  private func makeClients() {
    for at in 0..<options.registerClients + options.readers {
      let isReader = at >= options.registerClients
      add(KVClient(world: self, number: clients.count, isReader: isReader))
    }
    for _ in 0..<options.leaseClients { add(LeaseClient(world: self, number: clients.count)) }
    for _ in 0..<options.watchClients { add(WatchClient(world: self, number: clients.count)) }
    add(Operator(world: self, number: clients.count))
  }

  /// Who leads by the newest term, if anyone does.
  var leader: Host? {
    var newest: Host?
    for host in hosts {
      guard let process = host.process, process.core.role == .leader else { continue }
      if let known = newest?.process, known.core.term > process.core.term { continue }
      newest = host
    }
    return newest
  }

  // MARK: Members

  /// A change of the members was applied by some member, for the first time.
  func memberChanged(_ change: MemberChange, at index: LogIndex) {
    guard index > membershipIndex else { return }
    membershipIndex = index
    note("member change at \(index.rawValue)")
    switch change {
    case .add(let member):
      if let host = host(member.id) {
        host.isMember = true
        return
      }
      var member = member
      let number = hosts.count
      member.name = "m\(number)"
      member.clientURLs = ["http://10.0.0.\(number + 1):2379"]
      let host = Host(number: number, member: member, founders: nil)
      host.isMember = true
      host.isLearner = member.isLearner
      hosts.append(host)
      queue.add(.start(host: number), at: now + UInt64(random.next(below: 1_000_000_000)))
    case .promote(let id): host(id)?.isLearner = false
    case .remove(let id):
      guard let host = host(id) else { return }
      host.isMember = false
      // Its keeper switches it off at last, should it not have heard.
      let patience = 2_000_000_000 + UInt64(random.next(below: 4_000_000_000))
      queue.add(.retire(host: host.number), at: now + patience)
    case .update: break
    }
  }

  // MARK: Ends and starts

  /// Ends a member's process. What it wrote stays, or goes as `host.survival` says.
  func end(_ host: Host, why: String, survives: Bool) {
    guard let process = host.process else { return }
    note("\(host.number) ends: \(why)")
    for call in process.calls { reply(.lost(call, wasSent: true), from: process) }
    for case .client(.open(let call, _, _, _)) in process.loopInbox {
      reply(.lost(call, wasSent: true), from: process)
    }
    if survives { host.survival = .everything }
    host.process = nil
    host.run += 1
    host.pausedUntil = 0
    guard host.state == .up else { return }
    host.state = .down
    let delay = isHealed ? 100_000_000 : 50_000_000 + random.next(below: 3_000_000_000)
    queue.add(.start(host: host.number), at: now + UInt64(delay))
  }

  /// A member has learnt of its removal: it stops after a second, in which the others hear of it.
  /// etcd: `stopWithDelay`.
  func removed(_ host: Host) {
    queue.add(.retire(host: host.number), at: now + 1_000_000_000)
  }

  private func retire(_ host: Host) {
    host.state = .gone
    end(host, why: "was removed", survives: true)
  }

  private func start(_ host: Host) {
    guard host.state == .down, host.process == nil else { return }
    switch host.survival {
    case .everything: host.disk.kill()
    default: host.disk.crash(host.survival)
    }
    nemesis.armDisk(of: host)
    do throws(StartFailure) {
      let process = try Process.start(host, self)
      host.process = process
      host.state = .up
      host.run = process.run
      note("\(host.number) starts, log at \(process.core.lastIndex.rawValue)")
      checks.started(process)
      process.begin()
    } catch {
      startFailed(host, error)
    }
  }

  private func startFailed(_ host: Host, _ failure: StartFailure) {
    note("\(host.number) does not start: \(failure)")
    switch failure {
    case .lost(let text): violate("durability", "\(host.number): \(text)")
    case .damaged:
      host.state = .gone
      host.isLost = true
    case .disk:
      host.survival = .everything
      queue.add(.start(host: host.number), at: now + 500_000_000)
    }
  }

  // MARK: The run

  /// The whole run: faults, healing, progress, silence; then everyone has the same.
  func run() {
    run(until: options.safetyTime)
    isHealed = true
    note("the faults are over")
    nemesis.heal()
    for host in hosts where host.state == .down {
      queue.add(.start(host: host.number), at: now + 1_000_000)
    }
    // Time for an election, lost proposals' patience and the members' restarts.
    run(until: now + options.recoveryTime)
    for client in clients { client.healed() }
    run(until: now + options.livenessTime)
    isQuiet = true
    run(until: now + options.quietTime - 1_000_000_000)
    let committed = leader?.process?.core.commit ?? .zero
    run(until: now + 1_000_000_000)
    guard violation == nil else { return }
    finish(committed)
  }

  private func finish(_ committed: LogIndex) {
    for client in clients {
      if let problem = client.unfinished() { violate("progress", problem) }
    }
    // One client may wait in vain: when a snapshot brings its entry, nobody answers.
    let answered = clients.reduce(0) { $0 + (($1 as? KVClient)?.answeredSinceHealed ?? 0) }
    if answered < 10 { violate("progress", "\(answered) answers since the faults ended") }
    let members = hosts.filter { $0.isMember && $0.state != .gone }
    guard leader != nil else { return violate("progress", "nobody leads") }
    checks.overdueLeases()
    for host in members {
      guard let process = host.process else {
        violate("progress", "\(host.number) does not run")
        continue
      }
      if process.replica.appliedIndex < committed {
        violate(
          "progress",
          "\(host.number) has applied \(process.replica.appliedIndex.rawValue), "
            + "committed was \(committed.rawValue)")
      }
      if !host.isLearner, !checks.hashes.final.contains(host.number) {
        violate("progress", "\(host.number) has given no hash")
      }
    }
  }

  /// Runs until `time`, or the first violation.
  func run(until time: UInt64) {
    while violation == nil, let next = queue.nextTime, next <= time {
      guard let (moment, event) = queue.next() else { return }
      now = moment
      handle(event)
    }
    now = max(now, time)
  }

  private func process(_ number: Int, _ run: Int, _ event: Event) -> Process? {
    let host = hosts[number]
    guard let process = host.process, host.run == run else { return nil }
    guard host.pausedUntil <= now else {
      queue.add(event, at: host.pausedUntil)
      return nil
    }
    return process
  }

  private func handle(_ event: Event) {
    switch event {
    case .turn(let number, let run, let thread):
      guard let process = process(number, run, event) else { return }
      trace.event(UInt64(thread.rawValue), at: now, host: number)
      process.take(turn: thread)
    case .written(let number, let run):
      guard let process = process(number, run, event) else { return }
      trace.event(10, at: now, host: number)
      process.written()
    case .committed(let number, let run):
      guard let process = process(number, run, event) else { return }
      trace.event(11, at: now, host: number)
      process.committed()
    case .deliver(let packet): deliver(packet)
    case .ask(let ask): host(ask.to)?.process?.post(.asked(ask))
    case .answer(let ask, let answer):
      guard let host = host(ask.from), host.run == ask.run else { return }
      host.process?.post(.answered(ask, answer))
    case .start(let number):
      trace.event(12, at: now, host: number)
      start(hosts[number])
    case .toServer(let number, let run, let input, let call):
      guard let process = hosts[number].process, hosts[number].run == run else {
        return toClient(call, .lost(call, wasSent: false))
      }
      process.post(.client(input))
    case .toClient(let client, let event): clients[client].take(event)
    case .client(let client, let timer): clients[client].fires(timer)
    case .nemesis: nemesis.act()
    case .retire(let number): retire(hosts[number])
    case .check:
      checks.periodic()
      queue.add(.check, at: now + 50_000_000)
    }
  }
}
