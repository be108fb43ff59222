internal import CBasics

extension RawSpan {
  /// A copy of the bytes. One allocation.
  public func copied() -> [UInt8] {
    unsafe withUnsafeBytes { unsafe [UInt8]($0) }
  }

  /// Whether both hold the same bytes.
  public func equals(_ other: RawSpan) -> Bool {
    byteCount == other.byteCount && compare(other) == 0
  }

  /// Negative, zero or positive as the bytes sort before, with or after `other`, bytewise;
  /// a prefix sorts first.
  public func compare(_ other: RawSpan) -> Int {
    let shared = Swift.min(byteCount, other.byteCount)
    let order = unsafe withUnsafeBytes { mine in
      unsafe other.withUnsafeBytes { theirs in
        shared == 0
          ? 0 : Int(unsafe martlet_compare(mine.baseAddress!, theirs.baseAddress!, shared))
      }
    }
    return order != 0 ? order : byteCount - other.byteCount
  }

  public subscript(_ offset: Int) -> UInt8 {
    precondition(offset >= 0 && offset < byteCount)
    return unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
  }
}

extension [UInt8] {
  /// The bytes, borrowed.
  public var rawSpan: RawSpan {
    @_lifetime(borrow self)
    get { unsafe span.bytes }
  }

  /// Adds the bytes of `span`.
  public mutating func append(contentsOf span: RawSpan) {
    unsafe span.withUnsafeBytes { unsafe append(contentsOf: $0) }
  }

  /// The bytes of `text` in UTF-8.
  public init(_ text: StaticString) {
    self = unsafe [UInt8](
      UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }
}
