public import Basics

/// etcdserverpb.PutRequest; byte fields lie in the buffer it was read from.
public struct PutRequest: Sendable {
  public var key = Slice.empty
  public var value = Slice.empty
  public var lease = LeaseID.none
  public var previous = false
  public var ignoreValue = false
  public var ignoreLease = false

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: key = try field.bytes
      case 2: value = try field.bytes
      case 3: lease = LeaseID(try field.signed)
      case 4: previous = try field.bool
      case 5: ignoreValue = try field.bool
      case 6: ignoreLease = try field.bool
      default: break
      }
    }
  }
}

/// etcdserverpb.RangeRequest.
public struct RangeRequest: Sendable {
  public var key = Slice.empty
  public var end = Slice.empty
  public var limit: Int64 = 0
  public var revision: Int64 = 0
  /// 0 none, 1 ascending, 2 descending.
  public var order: Int64 = 0
  /// 0 key, 1 version, 2 create revision, 3 mod revision, 4 value.
  public var target: Int64 = 0
  public var isSerializable = false
  public var keysOnly = false
  public var countOnly = false
  public var modRevisionMin: Int64 = 0
  public var modRevisionMax: Int64 = 0
  public var createRevisionMin: Int64 = 0
  public var createRevisionMax: Int64 = 0

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: key = try field.bytes
      case 2: end = try field.bytes
      case 3: limit = try field.signed
      case 4: revision = try field.signed
      case 5: order = try field.signed
      case 6: target = try field.signed
      case 7: isSerializable = try field.bool
      case 8: keysOnly = try field.bool
      case 9: countOnly = try field.bool
      case 10: modRevisionMin = try field.signed
      case 11: modRevisionMax = try field.signed
      case 12: createRevisionMin = try field.signed
      case 13: createRevisionMax = try field.signed
      default: break
      }
    }
  }
}

/// etcdserverpb.DeleteRangeRequest.
public struct DeleteRangeRequest: Sendable {
  public var key = Slice.empty
  public var end = Slice.empty
  public var previous = false

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: key = try field.bytes
      case 2: end = try field.bytes
      case 3: previous = try field.bool
      default: break
      }
    }
  }
}

/// etcdserverpb.Compare.
public struct Compare: Sendable {
  /// 0 equal, 1 greater, 2 less, 3 not equal.
  public var result: Int64 = 0
  /// 0 version, 1 create revision, 2 mod revision, 3 value, 4 lease.
  public var target: Int64 = 0
  public var key = Slice.empty
  public var end = Slice.empty
  /// Which member of the union was given last: its field number, 0 when none.
  public var given = 0
  /// The number given, unless a value was.
  public var number: Int64 = 0
  public var value = Slice.empty

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: result = try field.signed
      case 2: target = try field.signed
      case 3: key = try field.bytes
      case 4, 5, 6, 8:
        given = field.number
        number = try field.signed
      case 7:
        given = 7
        value = try field.bytes
      case 64: end = try field.bytes
      default: break
      }
    }
  }
}

/// etcdserverpb.RequestOp.
public indirect enum RequestOp: Sendable {
  case range(RangeRequest)
  case put(PutRequest)
  case deleteRange(DeleteRangeRequest)
  case txn(TxnRequest)
  /// No member of the union was given.
  case empty

  init(_ message: Slice, in bytes: RawSpan, depth: Int) throws(WireError) {
    var cursor = WireCursor(message)
    self = .empty
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: self = .range(try RangeRequest(try field.bytes, in: bytes))
      case 2: self = .put(try PutRequest(try field.bytes, in: bytes))
      case 3: self = .deleteRange(try DeleteRangeRequest(try field.bytes, in: bytes))
      case 4: self = .txn(try TxnRequest(try field.bytes, in: bytes, depth: depth + 1))
      default: break
      }
    }
  }
}

/// etcdserverpb.TxnRequest.
public struct TxnRequest: Sendable {
  /// How deep transactions may nest before they are taken for malformed.
  public static let depthMax = 64

  public var compares: [Compare] = []
  public var success: [RequestOp] = []
  public var failure: [RequestOp] = []

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    try self.init(message, in: bytes, depth: 0)
  }

  init(_ message: Slice, in bytes: RawSpan, depth: Int) throws(WireError) {
    guard depth < TxnRequest.depthMax else { throw .malformed }
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: compares.append(try Compare(try field.bytes, in: bytes))
      case 2: success.append(try RequestOp(try field.bytes, in: bytes, depth: depth))
      case 3: failure.append(try RequestOp(try field.bytes, in: bytes, depth: depth))
      default: break
      }
    }
  }

  /// Whether every operation is a range: then it needs no place in the log.
  public var isReadOnly: Bool {
    func isRange(_ op: RequestOp) -> Bool { if case .range = op { true } else { false } }
    return success.allSatisfy(isRange) && failure.allSatisfy(isRange)
  }

  /// Whether every operation is a serializable range.
  public var isSerializable: Bool {
    func isSerializable(_ op: RequestOp) -> Bool {
      if case .range(let range) = op { range.isSerializable } else { false }
    }
    return success.allSatisfy(isSerializable) && failure.allSatisfy(isSerializable)
  }
}

/// Numbers of a small request by field number; bytes are left out.
/// For CompactionRequest, LeaseGrantRequest and others of that kind.
public struct Numbers: Sendable {
  private var values: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  public init(_ message: Slice, in bytes: RawSpan) throws(WireError) {
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: values.0 = try field.unsigned
      case 2: values.1 = try field.unsigned
      case 3: values.2 = try field.unsigned
      case 4: values.3 = try field.unsigned
      default: break
      }
    }
  }

  /// The number of field 1 to 4; 0 when it was not given.
  public subscript(_ number: Int) -> UInt64 {
    switch number {
    case 1: values.0
    case 2: values.1
    case 3: values.2
    default: values.3
    }
  }

  public func signed(_ number: Int) -> Int64 { Int64(bitPattern: self[number]) }
}
