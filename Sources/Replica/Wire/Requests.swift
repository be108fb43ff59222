public import API
public import Basics

/// A transaction with those inside it; what its operations name lies in the buffer it was read
/// from. etcd: etcdserverpb.TxnRequest.
public struct Txn: Sendable {
  /// How deep transactions may nest before they are taken for malformed.
  public static let depthMax = MessageLimits.depthMax / 2

  public indirect enum Op: Sendable {
    case range(RangeRequestView)
    case put(PutRequestView)
    case deleteRange(DeleteRangeRequestView)
    case txn(Txn)
    /// No member of the union was given.
    case empty
  }

  public var compares: [CompareView]
  public var success: [Op]
  public var failure: [Op]

  /// Reads all of it, at every depth.
  public init(_ bytes: RawSpan, in message: Slice) throws(DecodeError) {
    try self.init(bytes, in: message, depth: 1)
  }

  private init(_ bytes: RawSpan, in message: Slice, depth: Int) throws(DecodeError) {
    guard depth <= Txn.depthMax else { throw DecodeError(.tooDeep, at: Int(message.start)) }
    var view = TxnRequestView()
    try view.decode(bytes, in: message)
    compares = view.compares
    success = []
    failure = []
    for op in view.success { success.append(try Txn.read(op, bytes, depth: depth)) }
    for op in view.failure { failure.append(try Txn.read(op, bytes, depth: depth)) }
  }

  private static func read(
    _ op: RequestOpView, _ bytes: RawSpan, depth: Int
  ) throws(DecodeError) -> Op {
    switch op {
    case .none: .empty
    case .range(let range): .range(range)
    case .put(let put): .put(put)
    case .deleteRange(let delete): .deleteRange(delete)
    case .txn(let message): .txn(try Txn(bytes, in: message, depth: depth + 1))
    }
  }

  /// Whether every operation is a range: then it needs no place in the log.
  public var isReadOnly: Bool {
    func isRange(_ op: Op) -> Bool { if case .range = op { true } else { false } }
    return success.allSatisfy(isRange) && failure.allSatisfy(isRange)
  }

  /// Whether every operation is a serializable range.
  public var isSerializable: Bool {
    func isSerializable(_ op: Op) -> Bool {
      if case .range(let range) = op { range.serializable } else { false }
    }
    return success.allSatisfy(isSerializable) && failure.allSatisfy(isSerializable)
  }
}

/// Numbers of a small request by field number; other fields are passed over.
/// For CompactionRequest, LeaseGrantRequest and others of that kind.
public struct Numbers: Sendable {
  private var values: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  public init(of message: RawSpan) throws(DecodeError) {
    try self.init(message, in: Slice(start: 0, count: message.byteCount))
  }

  public init(_ bytes: RawSpan, in message: Slice) throws(DecodeError) {
    var reader = ProtoReader(bytes, in: message)
    while let tag = try reader.nextTag() {
      guard tag.wire == .varint, tag.field <= 4 else {
        try reader.skip(tag)
        continue
      }
      let value = try reader.uint64(tag)
      switch tag.field {
      case 1: values.0 = value
      case 2: values.1 = value
      case 3: values.2 = value
      default: values.3 = value
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

extension [UInt8] {
  /// A `string` field; nothing when empty.
  public mutating func appendText(_ field: Int, _ text: String) {
    appendField(field, [UInt8](text.utf8).rawSpan)
  }
}
