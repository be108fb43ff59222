internal import API
internal import Basics
internal import MVCC
internal import Replica
internal import Services

/// What an io loop of Sources/Server/Net does; the connections are the simulation's.
extension Process {
  static let loopTick: UInt64 = 100_000_000

  func turnLoop() {
    services.status = status
    services.status.now = now
    services.status.unixSeconds = Int64(now / 1_000_000_000)
    let inbox = loopInbox
    loopInbox.removeAll(keepingCapacity: true)
    for input in inbox { take(input) }
    if now >= nextLoopTick {
      nextLoopTick = now + Self.loopTick
      services.tick(out: &outbox)
    }
    serve()
    wake(.loop, at: host.trueTime(nextLoopTick))
  }

  private func take(_ input: LoopInput) {
    switch input {
    case .completions(let batch): services.completed(batch, out: &outbox)
    case .events(let batch): services.events(batch, out: &outbox)
    case .readIndex(let ticket, let index):
      services.readIndexReady(ticket: ticket, index: index)
    case .replaced(let revision, let compactRevision):
      services.storeReplaced(
        revision: revision, compactRevision: compactRevision, out: &outbox)
    case .wake: break
    case .client(let input): take(input)
    }
  }

  private func take(_ input: ClientInput) {
    switch input {
    case .open(let call, let method, let timeout, let needsLeader):
      calls.append(call)
      services.open(
        call, method, needsLeader: needsLeader, timeout: timeout, token: [], out: &outbox)
    case .message(let call, let bytes):
      services.receive(call, bytes.rawSpan, out: &outbox)
    case .halfClose(let call): services.halfClosed(call, out: &outbox)
    case .cancel(let call):
      calls.removeAll { $0 == call }
      services.cancelled(call, out: &outbox)
    case .writable(let call, let isWritable): services.writable(call, isWritable)
    }
  }

  /// Lets the services work until nothing moves, and hands out what they ask for.
  private func serve() {
    services.flush(out: &outbox)
    deliver()
    var rounds = 0
    while services.wantsStore, rounds < 64 {
      rounds += 1
      services.plan(
        store: replica.store, control: replica.access, reader: &reader, rowsMax: { _ in .max })
      services.execute(reader: &reader, out: &outbox)
      reader.reset()
      deliver()
    }
    if services.wantsStore || services.hasWatchResponses { wake(.loop) }
  }

  private func deliver() {
    for reply in outbox.replies {
      switch reply {
      case .answer(let call, let slice):
        calls.removeAll { $0 == call }
        world.reply(.message(call, outbox.arena.rawSpan.extracting(slice).copied()), from: self)
        world.reply(.finished(call, nil), from: self)
      case .message(let call, let slice):
        world.reply(.message(call, outbox.arena.rawSpan.extracting(slice).copied()), from: self)
      case .finish(let call, let failure):
        calls.removeAll { $0 == call }
        world.reply(.finished(call, failure), from: self)
      }
    }
    if !outbox.proposals.isEmpty { post(.proposals(outbox.proposals)) }
    if let ticket = outbox.readIndexTicket {
      if world.plant == .readWithoutIndex {
        post(LoopInput.readIndex(ticket: ticket, index: status.appliedIndex))
      } else {
        post(RaftInput.readIndex(ticket: ticket))
      }
    }
    if !outbox.queries.isEmpty { ask(outbox.queries) }
    if !outbox.forwards.isEmpty { post(.forwards(outbox.forwards)) }
    if let target = outbox.transferee { post(.transfer(target)) }
    outbox.removeAll()
  }

  private func ask(_ queries: [Query]) {
    let held = queries.filter(\.waitsForCommitted)
    if !held.isEmpty { post(.questions(held)) }
    if held.count < queries.count {
      post(.queries(queries.filter { !$0.waitsForCommitted }))
    }
  }
}
