extension Array {
  /// Empties it and keeps its memory, unless that is more than `count` elements: what one large
  /// request took is not held for ever.
  public mutating func removeAll(keepingUpTo count: Int) {
    removeAll(keepingCapacity: capacity <= count)
  }
}
