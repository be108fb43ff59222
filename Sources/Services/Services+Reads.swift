internal import API
public import Auth
internal import Basics
public import MVCC
internal import Replica

/// A read that has been planned under the lock and is to be carried out without it.
struct Planned {
  enum Result {
    case range(RangePlan)
    /// Which branch a transaction takes and the plans of its ranges, in order.
    case txn(Bool, [RangePlan], revision: Int64)
    /// What the password of a login has to fit, at which auth revision.
    case password(hash: [UInt8], revision: UInt64)
    case failure(Failure)
  }

  var read: Read
  var result: Result

  /// About how many rows it gives.
  var rows: Int {
    switch result {
    case .range(let plan): plan.rowCount
    case .txn(_, let plans, _): plans.reduce(0) { $0 + $1.rowCount }
    case .password, .failure: 0
    }
  }
}

extension Services {
  /// Whether anything has to be read.
  public var wantsStore: Bool {
    !reads.ready.isEmpty || !access.waiting.isEmpty || watchesWantStore
  }

  /// Finds out who makes the requests that wait for that, and plans the reads that may go ahead,
  /// up to a number of rows: permission and read are of one state. Those with more rows than
  /// `rowsMax` has for their call, whose client has too many answers unread, wait for `roomMade`.
  /// Under the store's read lock.
  public mutating func plan(
    store: borrowing Store<B>, control: borrowing AccessControl, reader: inout B.Reader,
    rowsMax: (CallID) -> Int
  ) {
    identify(control)
    var rows = 0
    var next = 0
    while next < reads.ready.count, rows < limits.rowsPerStepMax {
      let read = reads.ready[next]
      next += 1
      guard calls.contains(read.call) else { continue }
      let most = rowsMax(read.call)
      guard most > 0 else {
        reads.held.append(read)
        continue
      }
      var result: Planned.Result
      do throws(Failure) {
        if control.store.isEnabled, calls[read.call]?.isOwn != true { try check(read, control) }
        result = try plan(read, store, control.store, &reader)
      } catch {
        result = .failure(error)
      }
      let item = Planned(read: read, result: result)
      guard item.rows <= most else {
        reads.held.append(read)
        continue
      }
      rows += item.rows
      planned.append(item)
    }
    if next == reads.ready.count {
      reads.ready.removeAll(keepingCapacity: true)
    } else {
      reads.ready.removeFirst(next)
    }
    planWatches(store: store, reader: &reader)
  }

  /// Some client has read what it was answered: reads that waited for that may go ahead.
  public mutating func roomMade() {
    reads.ready = reads.held + reads.ready
    reads.held = []
  }

  private mutating func plan(
    _ read: Read, _ store: borrowing Store<B>, _ auth: AuthStore, _ reader: inout B.Reader
  ) throws(Failure) -> Planned.Result {
    let bytes = read.message.rawSpan
    switch read.kind {
    case .range(let request):
      var plan = RangePlan()
      try StoreReading.plan(request.query(bytes), store, &reader, into: &plan)
      return .range(plan)
    case .txn(let txn):
      var path: [Bool] = []
      try StoreReading.choose(txn, bytes, store, &reader, into: &path)
      var step = 0
      try StoreReading.checkRanges(txn, path, &step, store)
      var plans: [RangePlan] = []
      for case .range(let request) in path[0] ? txn.success : txn.failure {
        var plan = RangePlan()
        try StoreReading.plan(request.query(bytes), store, &reader, into: &plan)
        plans.append(plan)
      }
      return .txn(path[0], plans, revision: store.currentRevision)
    case .password:
      let name = calls[read.call]?.login?.request.name ?? []
      do throws(AuthError) {
        return .password(hash: try auth.passwordHash(of: name), revision: auth.revision)
      } catch {
        throw Failure(error)
      }
    case .query: preconditionFailure("a question is not for the store")
    }
  }

  /// Carries out what was planned and answers it; what is left when the answers have become many
  /// bytes is planned anew. Without the lock.
  public mutating func execute(reader: inout B.Reader, out: inout Outbox) {
    carryOutIdentified(out: &out)
    let work = planned
    planned.removeAll(keepingCapacity: true)
    var response = scratch
    scratch = []
    let bytesMax = out.arena.count + limits.answerBytesPerStep
    for (place, item) in work.enumerated() {
      if out.arena.count >= bytesMax {
        reads.ready.insert(contentsOf: work[place...].map(\.read), at: 0)
        break
      }
      let id = item.read.call
      if case .password(let hash, let revision) = item.result {
        checkPassword(id, hash: hash, revision: revision, out: &out)
        continue
      }
      response.removeAll(keepingUpTo: 4 << 20)
      do throws(Failure) { try encode(item.result, &reader, into: &response) } catch {
        fail(id, error, out: &out)
        continue
      }
      guard let call = calls[id] else { continue }
      if call.hasWaiter {
        advance(id, failure: nil, response.rawSpan, out: &out)
      } else {
        answer(id, response.rawSpan, out: &out)
      }
    }
    if response.capacity <= limits.answerBytesPerStep { scratch = response }
    executeWatches(reader: &reader, out: &out)
  }

  private mutating func encode(
    _ result: Planned.Result, _ reader: inout B.Reader, into response: inout [UInt8]
  ) throws(Failure) {
    switch result {
    case .failure(let failure): throw failure
    case .password: preconditionFailure("a password is not answered")
    case .range(var plan):
      tally.ranges += 1
      response.appendHeader(header(revision: plan.revision))
      try StoreReading.encode(&plan, &reader, into: &response)
    case .txn(let holds, let plans, let revision):
      tally.ranges += plans.count
      if plans.count > 1 { tally.txns += 1 }
      response.appendHeader(header(revision: revision))
      response.appendField(2, holds)
      for var plan in plans {
        let outer = response.beginField(3, expecting: 0)
        let inner = response.beginField(1, expecting: 0)
        response.appendHeader(ResponseHeaderView(revision: plan.revision))
        try StoreReading.encode(&plan, &reader, into: &response)
        response.endField(inner)
        response.endField(outer)
      }
    }
  }

  private func header(revision: Int64) -> ResponseHeaderView {
    var header = header
    header.revision = revision
    return header
  }
}
