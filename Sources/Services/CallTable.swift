/// Values by call, found without a search: the lower half of a call's number is its place in the
/// table, the upper half tells it from the calls that had the place before. One table gives the
/// numbers, others hold what else is known of the same calls.
///
/// Inlinable, since the module that serves connections has values of its own in one.
public struct CallTable<Value> {
  @usableFromInline struct Slot {
    @usableFromInline var id: UInt64
    @usableFromInline var value: Value?

    @inlinable init(id: UInt64, value: Value?) {
      self.id = id
      self.value = value
    }
  }

  @usableFromInline var slots: [Slot] = []
  @usableFromInline var free: [Int] = []
  @usableFromInline let givesNumbers: Bool
  @usableFromInline var used = 0
  @inlinable public var count: Int { used }

  @inlinable public init(givesNumbers: Bool) { self.givesNumbers = givesNumbers }
  @inlinable public var isEmpty: Bool { count == 0 }

  @inlinable static func place(_ id: CallID) -> Int {
    Int(truncatingIfNeeded: id.rawValue & 0xffff_ffff)
  }

  /// Adds a value under a number that this table has not given before.
  @inlinable public mutating func insert(_ value: Value) -> CallID {
    precondition(givesNumbers)
    used += 1
    guard let place = free.popLast() else {
      slots.append(Slot(id: UInt64(slots.count), value: value))
      return CallID(UInt64(slots.count - 1))
    }
    slots[place].value = value
    return CallID(slots[place].id)
  }

  /// Adds a value under a number that another table has given.
  @inlinable public mutating func insert(_ value: Value, as id: CallID) {
    precondition(!givesNumbers)
    let place = Self.place(id)
    while slots.count <= place { slots.append(Slot(id: UInt64(slots.count), value: nil)) }
    precondition(slots[place].value == nil, "a call's number is used twice")
    slots[place] = Slot(id: id.rawValue, value: value)
    used += 1
  }

  /// A copy of the value of a call; nil when the call is over.
  @inlinable public subscript(id: CallID) -> Value? {
    let place = Self.place(id)
    guard place < slots.count, slots[place].id == id.rawValue else { return nil }
    return slots[place].value
  }

  /// Calls `body` with the value of a call, to be changed in place; nil when the call is over.
  /// A method, since an accessor that yields would allocate its frame for each use.
  @discardableResult
  @inlinable
  @inline(__always)
  public mutating func with<R>(_ id: CallID, _ body: (inout Value) -> R) -> R? {
    let place = Self.place(id)
    guard place < slots.count, slots[place].id == id.rawValue, slots[place].value != nil
    else { return nil }
    return body(&slots[place].value!)
  }

  /// Whether the call is not over.
  @inlinable public func contains(_ id: CallID) -> Bool {
    let place = Self.place(id)
    return place < slots.count && slots[place].id == id.rawValue && slots[place].value != nil
  }

  /// The numbers of all calls, by place. Cost: looks at every place.
  @inlinable public var ids: [CallID] {
    slots.compactMap { $0.value == nil ? nil : CallID($0.id) }
  }

  /// Forgets a call; nil when it is over.
  @discardableResult
  @inlinable
  public mutating func remove(_ id: CallID) -> Value? {
    let place = Self.place(id)
    guard place < slots.count, slots[place].id == id.rawValue, let value = slots[place].value
    else { return nil }
    slots[place].value = nil
    slots[place].id &+= 1 << 32
    if givesNumbers { free.append(place) }
    used -= 1
    return value
  }
}
