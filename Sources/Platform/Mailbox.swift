/// A bounded queue into one thread, drained as a whole batch.
///
/// The receiver sleeps on the mailbox itself, or, when it has a poller, is woken through its
/// `Wakeup`. A sender wakes it only when the queue was empty.
public final class Mailbox<Item: Sendable>: Sendable {
  private struct State {
    var items: [Item] = []
    var isClosed = false
  }

  private let lock: Lock<State>
  private let limit: Int
  private let wakeup: Wakeup?

  /// `limit` bounds `offer`; `post` is for what must not be refused and is bounded by what
  /// caused it.
  public init(limit: Int, wakeup: Wakeup? = nil) {
    lock = Lock(State())
    self.limit = limit
    self.wakeup = wakeup
  }

  /// Adds `item` unless the box is full or closed.
  public func offer(_ item: Item) -> Bool {
    let (taken, wasEmpty) = lock.withLock { state in
      guard !state.isClosed, state.items.count < limit else { return (false, false) }
      state.items.append(item)
      return (true, state.items.count == 1)
    }
    if wasEmpty { wake() }
    return taken
  }

  /// Adds `item` whatever the limit.
  public func post(_ item: Item) {
    let wasEmpty = lock.withLock { state in
      state.items.append(item)
      return state.items.count == 1
    }
    if wasEmpty { wake() }
  }

  /// Moves everything into `items`, which is emptied first, without waiting.
  public func drain(into items: inout [Item]) {
    items.removeAll(keepingCapacity: true)
    lock.withLock { swap(&$0.items, &items) }
  }

  /// The same, after waiting until there is something or `deadline` (monotonic ns) has passed.
  public func wait(until deadline: UInt64, into items: inout [Item]) {
    items.removeAll(keepingCapacity: true)
    lock.wait(until: deadline, { !$0.items.isEmpty || $0.isClosed }) {
      swap(&$0.items, &items)
    }
  }

  /// Ends `wait`; what is posted later stays unread.
  public func close() {
    lock.withLock { $0.isClosed = true }
    wake()
  }

  private func wake() {
    if let wakeup { wakeup.signal() } else { lock.signal() }
  }
}
