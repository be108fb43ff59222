internal import API
internal import Basics
internal import MVCC

/// Every answer is explained by one order of all operations that respects real time. Revisions
/// name that order, so each answer is checked, not searched for: what it says must be what the
/// model says at its revision, and its revision must not lie before what anyone knew when the
/// operation began. Herlihy and Wing, Linearizability; etcd: tests/robustness.
struct Linearizability {
  private struct Operation {
    /// The newest revision that any client had been told of when the operation began.
    var floor: Int64
    /// The revision that it wrote.
    var effect: Int64?
    var wasRefused = false
    /// Whether the answer has come.
    var isAnswered = false
  }

  private var operations: [Operation] = []
  /// The newest revision that any client has been told of.
  private(set) var known: Int64 = 1
  private(set) var answered = 0

  /// A new operation's number; the values that it puts begin with `Linearizability.tag` of it.
  mutating func begin() -> Int {
    operations.append(Operation(floor: known))
    return operations.count - 1
  }

  /// The number that the next operation will have.
  var next: Int { operations.count }

  static func tag(_ operation: Int) -> [UInt8] { [UInt8]("v\(operation),".utf8) }

  /// The operation that made a value.
  private static func operation(of value: RawSpan) -> Int? {
    guard value.byteCount > 2, value[0] == UInt8(ascii: "v") else { return nil }
    var number = 0
    for at in 1..<value.byteCount {
      guard value[at] != UInt8(ascii: ",") else { return number }
      guard value[at] >= 48, value[at] <= 57, number < 1 << 40 else { return nil }
      number = number * 10 + Int(value[at] - 48)
    }
    return nil
  }

  /// Something was seen at a revision that had not been known of before.
  mutating func saw(_ revision: Int64) { known = max(known, revision) }

  /// A client was told that its operation was not even tried.
  mutating func refused(_ operation: Int) -> String? {
    operations[operation].wasRefused = true
    return operations[operation].effect == nil ? nil : "a refused operation took effect"
  }

  /// A change of the ledger at `revision`: whose it is, and whether it may be there.
  mutating func made(_ change: Ledger.Change, _ revision: Int64) -> String? {
    guard change.kind == .put, let view = try? KeyValueView(change.keyValue.rawSpan),
      let number = Self.operation(of: change.keyValue.rawSpan.extracting(view.value)),
      number < operations.count
    else { return nil }
    let operation = operations[number]
    if operation.effect == revision { return nil }
    if let effect = operation.effect {
      return "operation \(number) took effect at revisions \(effect) and \(revision)"
    }
    if operation.wasRefused { return "operation \(number) was refused and took effect" }
    if operation.isAnswered { return "operation \(number) took effect after its answer" }
    if revision <= operation.floor {
      return "operation \(number) took effect at \(revision), before it began"
    }
    operations[number].effect = revision
    return nil
  }

  /// Holds an answer against the model.
  mutating func answered(
    _ number: Int, _ request: Request, _ answer: Answer, _ ledger: Ledger
  ) -> String? {
    let operation = operations[number]
    operations[number].isAnswered = true
    answered += 1
    let revision = answer.revision
    defer { saw(revision) }
    guard revision <= ledger.last, revision > 0 else {
      return "an answer at revision \(revision), which nobody has reached"
    }
    if !request.isSerializable, revision < operation.floor {
      return "operation \(number) answers at revision \(revision), "
        + "\(operation.floor) was known when it began"
    }
    let wrote: Bool
    switch request {
    case .put: wrote = true
    case .delete: wrote = answer.count > 0
    case .range: wrote = false
    case .txn: wrote = operation.effect == revision
    }
    if wrote, revision <= operation.floor {
      return "operation \(number) wrote revision \(revision), known before it began"
    }
    var model = Model(
      ledger: ledger, revision: wrote ? revision - 1 : revision, written: wrote ? revision : nil)
    if let problem = model.problem(request, answer) { return "operation \(number): \(problem)" }
    let changes = wrote ? ledger.changes(at: revision) : []
    return TransactionAtomicity.problem(changes, model.changes).map {
      "operation \(number) at revision \(revision): \($0)"
    }
  }
}

/// The store as a map, at one revision: what a request answers and changes.
struct Model {
  let ledger: Ledger
  let revision: Int64
  /// The revision that the request makes; nil when it changes nothing.
  let written: Int64?
  /// What the request at hand changes, in order; nil value: a delete.
  private(set) var changes: [(key: [UInt8], value: [UInt8]?)] = []

  init(ledger: Ledger, revision: Int64, written: Int64?) {
    self.ledger = ledger
    self.revision = revision
    self.written = written
  }

  /// A range as the operation at hand sees it: its transaction's changes so far are in it.
  private func range(_ key: [UInt8], _ end: [UInt8]) -> [[UInt8]] {
    let before = ledger.range(key, end, at: revision)
    guard let written, !changes.isEmpty else { return before }
    func isChanged(_ keyValue: [UInt8]) -> Bool {
      changes.contains { $0.key == Self.key(keyValue) }
    }
    let new = ledger.range(key, end, at: written).filter(isChanged)
    let all = before.filter { !isChanged($0) } + new
    return all.sorted { Self.key($0).lexicographicallyPrecedes(Self.key($1)) }
  }

  private static func key(_ keyValue: [UInt8]) -> [UInt8] {
    let span = keyValue.rawSpan
    return (try? KeyValueView(span)).map { span.extracting($0.key).copied() } ?? []
  }

  /// Carries out a request; nil when `answer` is what it answers.
  mutating func problem(_ request: Request, _ answer: Answer) -> String? {
    switch request {
    case .put(let key, let value, _, let previous):
      let before = previous ? range(key, []) : []
      changes.append((key, value))
      return before == answer.keyValues ? nil : "the previous value is another one"
    case .delete(let key, let end):
      let gone = range(key, end)
      for bytes in gone {
        guard let view = try? KeyValueView(bytes.rawSpan) else { continue }
        changes.append((bytes.rawSpan.extracting(view.key).copied(), nil))
      }
      guard Int64(gone.count) == answer.count else { return "deleted another number of keys" }
      return gone == answer.keyValues ? nil : "deleted other values"
    case .range(let key, let end, let asked, _):
      let found = asked > 0 ? ledger.range(key, end, at: asked) : range(key, end)
      guard Int64(found.count) == answer.count else { return "found another number of keys" }
      return found == answer.keyValues ? nil : "found other values"
    case .txn(let compares, let success, let failure):
      let holds = compares.allSatisfy(self.holds)
      guard holds == answer.succeeded else { return "took the other branch" }
      let requests = holds ? success : failure
      guard requests.count == answer.answers.count else { return "has another number of answers" }
      for (request, answer) in zip(requests, answer.answers) {
        if let problem = problem(request, answer) { return problem }
      }
      return nil
    }
  }

  private func holds(_ compare: Request.Compare) -> Bool {
    let found = ledger.find(compare.key, at: revision)
    switch compare.target {
    case .mod(let number): return (found?.revision ?? 0) == number
    case .created(let number): return (found?.created ?? 0) == number
    case .version(let number): return (found?.version ?? 0) == number
    }
  }
}
