internal import Basics
internal import Peers
internal import Platform
internal import Raft

/// When a leader sent its last heartbeat to each member: one that comes late by more than a beat
/// says that the leader waits for something. etcd: `contention.TimeoutDetector`.
struct HeartbeatTimes {
  private var sent: [(member: NodeID, at: UInt64)] = []

  mutating func removeAll() { sent.removeAll(keepingCapacity: true) }

  /// Notes heartbeats among `messages`; by how much the latest one exceeds `expected`, and for
  /// how many that is so.
  mutating func note(
    _ messages: [Message], now: UInt64, expected: UInt64
  ) -> (member: NodeID, exceeded: UInt64, count: Int)? {
    var late: (member: NodeID, exceeded: UInt64, count: Int)?
    for message in messages {
      guard case .heartbeat = message.body else { continue }
      guard let at = sent.firstIndex(where: { $0.member == message.to }) else {
        sent.append((message.to, now))
        continue
      }
      let passed = now - sent[at].at
      sent[at].at = now
      guard passed > expected else { continue }
      late = (message.to, max(passed - expected, late?.exceeded ?? 0), (late?.count ?? 0) + 1)
    }
    return late
  }
}

extension RaftThread {
  /// Tells of heartbeats among `messages` that a leader sends too late.
  mutating func checkHeartbeats(_ messages: [Message]) {
    guard core.role == .leader else { return heartbeats.removeAll() }
    let expected = 2 * settings.tickNanoseconds
    let late = heartbeats.note(messages, now: Clock.monotonic(), expected: expected)
    guard let late else { return }
    shared.metrics.lateHeartbeats.add(late.count)
    shared.log.warn(
      "leader failed to send out heartbeat on time; took too long, leader is overloaded likely "
        + "from slow disk", ("to", Handshake.text(late.member.rawValue)),
      ("heartbeat-interval", Logger.milliseconds(settings.tickNanoseconds)),
      ("expected-duration", Logger.milliseconds(expected)),
      ("exceeded-duration", Logger.milliseconds(late.exceeded)))
  }
}
