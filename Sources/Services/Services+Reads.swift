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

  var call: CallID
  var result: Result
}

extension Services {
  /// Whether anything has to be read.
  public var wantsStore: Bool {
    !reads.ready.isEmpty || !access.waiting.isEmpty || watchesWantStore
  }

  /// Finds out who makes the requests that wait for that, and plans all reads that may go ahead:
  /// permission and read are of one state. Under the store's read lock.
  public mutating func plan(
    store: borrowing Store<B>, control: borrowing AccessControl, reader: inout B.Reader
  ) {
    identify(control)
    for read in reads.ready where calls.contains(read.call) {
      var result: Planned.Result
      do throws(Failure) {
        if control.store.isEnabled, calls[read.call]?.isOwn != true { try check(read, control) }
        result = try plan(read, store, control.store, &reader)
      } catch {
        result = .failure(error)
      }
      planned.append(Planned(call: read.call, result: result))
    }
    reads.ready.removeAll(keepingCapacity: true)
    planWatches(store: store, reader: &reader)
  }

  private mutating func plan(
    _ read: Read, _ store: borrowing Store<B>, _ auth: AuthStore, _ reader: inout B.Reader
  ) throws(Failure) -> Planned.Result {
    let bytes = read.message.rawSpan
    switch read.kind {
    case .range(let request):
      var plan = RangePlan()
      try StoreReading.plan(request.query(bytes), store, &reader, into: &plan)
      tally.ranges += 1
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
      tally.ranges += plans.count
      if plans.count > 1 { tally.txns += 1 }
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

  /// Carries out what was planned and answers it. Without the lock.
  public mutating func execute(reader: inout B.Reader, out: inout Outbox) {
    carryOutIdentified(out: &out)
    let work = planned
    planned.removeAll(keepingCapacity: true)
    var response = scratch
    scratch = []
    for item in work {
      if case .password(let hash, let revision) = item.result {
        checkPassword(item.call, hash: hash, revision: revision, out: &out)
        continue
      }
      response.removeAll(keepingCapacity: true)
      do throws(Failure) { try encode(item.result, &reader, into: &response) } catch {
        fail(item.call, error, out: &out)
        continue
      }
      guard let call = calls[item.call] else { continue }
      if call.hasWaiter {
        advance(item.call, failure: nil, response.rawSpan, out: &out)
      } else {
        answer(item.call, response.rawSpan, out: &out)
      }
    }
    scratch = response
    executeWatches(reader: &reader, out: &out)
  }

  private func encode(
    _ result: Planned.Result, _ reader: inout B.Reader, into response: inout [UInt8]
  ) throws(Failure) {
    switch result {
    case .failure(let failure): throw failure
    case .password: preconditionFailure("a password is not answered")
    case .range(var plan):
      response.appendHeader(header(revision: plan.revision))
      try StoreReading.encode(&plan, &reader, into: &response)
    case .txn(let holds, let plans, let revision):
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
