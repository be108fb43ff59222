internal import Basics
internal import Config
internal import LMDB
internal import MVCC
internal import Membership
internal import Peers
internal import Platform
internal import Raft
internal import Replica
internal import Services
internal import TLS

/// Compares this member's data with the others' before anything is served: damage ends the start.
/// Members that do not answer, or have compacted otherwise, say nothing. etcd: `InitialCheck`.
struct InitialCheck {
  private enum Limits {
    static let rowsPerStep = 10_000
  }

  private let shared: Shared
  private let patience: UInt64
  private let tls: TLSFiles?
  private let handshake: (member: NodeID, cluster: ClusterID)

  init(_ shared: Shared, _ options: Options, _ tls: TLSFiles?) {
    self.shared = shared
    self.tls = tls
    patience = options.requestNanoseconds
    handshake = shared.board.withLock { ($0.status.member, $0.status.cluster) }
  }

  /// Before the threads start that change the store.
  func run() throws(StartError) {
    let own = Handshake.text(handshake.member.rawValue)
    shared.log.info(
      "starting initial corruption check", ("local-member-id", own),
      ("timeout", "\(patience / 1_000_000)ms"))
    let hash = try hashOwn(own)
    let answers = ask(try others(), hash)
    for each in answers { report(each, hash) }
    let differing = Corruption.atStart(hash: hash, answers: answers)
    guard differing.isEmpty else {
      let others = differing.map { "\(Handshake.text($0.member.rawValue)) has hash \($0.hash)" }
      throw StartError(
        "\(own) found data inconsistency with peers: at revision \(hash.revision), compacted at "
          + "\(hash.compactRevision), it has hash \(hash.hash), "
          + "\(others.joined(separator: ", ")) [--experimental-initial-corrupt-check]")
    }
    shared.log.info(
      "initial corruption checking passed; no corruption", ("local-member-id", own))
  }

  private func hashOwn(_ own: String) throws(StartError) -> StoreHash {
    func fail(_ error: StoreError) -> StartError {
      guard case .backend(let why) = error else { preconditionFailure("the newest is there") }
      return StartError("\(own) failed to fetch hash (\(why.text))")
    }
    do throws(StoreError) {
      var reader: LMDBBackend.Reader
      do { reader = try shared.backend.makeReader() } catch { throw .backend(error) }
      var task = try shared.replica.store.beginHash(0, reader: &reader)
      while try !shared.replica.store.stepHash(
        &task, reader: &reader, rowsMax: Limits.rowsPerStep)
      {}
      return StoreHash(
        hash: task.hash, revision: task.revision, compactRevision: task.compactRevision)
    } catch {
      throw fail(error)
    }
  }

  /// The other members, as the store has them.
  private func others() throws(StartError) -> [Member] {
    var members: [Member] = []
    do throws(BackendError) {
      let reader = try shared.backend.makeReader()
      try reader.renew()
      try reader.scan(.members, from: RawSpan(), to: RawSpan()) { _, row in
        if let json = try? JSON.parse(row.copied()), let member = try? Member(json) {
          members.append(member)
        }
        return true
      }
    } catch {
      throw StartError("the store cannot be read: \(error.text)")
    }
    return members.filter { $0.id != handshake.member && !$0.peerURLs.isEmpty }
      .sorted { $0.id < $1.id }
  }

  /// Asks all at once: where a whole cluster starts, nobody answers yet.
  private func ask(_ members: [Member], _ hash: StoreHash) -> [Corruption.Answer] {
    let answers = Lock<[Corruption.Answer]>([])
    for member in members {
      Thread.detach("hash") {
        let answer = ask(member, hash)
        answers.withLock { $0.append(answer) }
        answers.signal()
      }
    }
    let deadline = Clock.monotonic() + patience
    let count = members.count
    let found = answers.wait(until: deadline, { $0.count == count }, { $0 })
    let silent = members.filter { member in !found.contains { $0.member == member.id } }
    return (found + silent.map { Corruption.Answer($0.id, .missing("timed out")) })
      .sorted { $0.member < $1.member }
  }

  /// By the first of the member's URLs that answers.
  private func ask(_ member: Member, _ hash: StoreHash) -> Corruption.Answer {
    var answer = HashAnswer.missing("no URL")
    for url in member.peerURLs {
      do throws(Exchange.Failure) {
        let request = HashExchange.request(hash.revision, cluster: handshake.cluster)
        let (head, body) = try Exchange.ask(request, of: url, patience: patience, tls)
        answer = HashAnswer(status: head.status, body: body, to: hash.revision)
      } catch {
        answer = .missing("\(url): \(error.text)")
      }
      if case .hash = answer { break }
    }
    return Corruption.Answer(member.id, answer)
  }

  private func report(_ each: Corruption.Answer, _ hash: StoreHash) {
    let peer = ("remote-peer-id", Handshake.text(each.member.rawValue))
    let local = [
      ("local-member-revision", String(hash.revision)),
      ("local-member-compact-revision", String(hash.compactRevision)),
      ("local-member-hash", String(hash.hash)),
    ]
    let message: String
    switch each.answer {
    case .hash(let other, let current):
      guard other.hash != hash.hash else { return }
      shared.log.warn(
        other.compactRevision == hash.compactRevision
          ? "found different hash values from remote peer"
          : "found different compact revision values from remote peer",
        local[0], local[1], local[2], peer, ("remote-peer-revision", String(current)),
        ("remote-peer-compact-revision", String(other.compactRevision)),
        ("remote-peer-hash", String(other.hash)))
      return
    case .future: message = "cannot fetch hash from slow remote peer"
    case .compacted:
      message = "cannot fetch hash from remote peer; local member is behind"
    case .otherCluster: message = "cluster ID mismatch"
    case .missing(let why):
      shared.log.warn("failed hash kv request", peer, ("error", why))
      return
    }
    shared.log.warn(message, local[0], local[1], local[2], peer)
  }
}
