public import Basics

/// What a normal entry of the log asks for. etcd: `InternalRaftRequest`.
public enum InternalRequest: Sendable {
  case v2(Slice)
  case range(RangeRequest)
  case put(PutRequest)
  case deleteRange(DeleteRangeRequest)
  case txn(TxnRequest)
  case compaction(Numbers)
  case leaseGrant(Numbers)
  case leaseRevoke(Numbers)
  case leaseCheckpoint([(lease: LeaseID, remaining: Int64)])
  case alarm(Numbers)
  case clusterVersion(Slice)
  case memberAttributes(NodeID, name: Slice, clientURLs: [Slice])
  case downgrade(isEnabled: Bool, target: Slice)
  /// A request of the auth service, by its field number.
  case auth(Int, Slice)
  /// Nothing that this version knows.
  case unknown

  /// The field numbers of `InternalRaftRequest`, for those who propose.
  public enum Field: Int, Sendable {
    case range = 3, put = 4, deleteRange = 5, txn = 6, compaction = 7, leaseGrant = 8
    case leaseRevoke = 9, alarm = 10, leaseCheckpoint = 11, clusterVersion = 1300
    case memberAttributes = 1301, downgrade = 1302
  }

  /// Reads an entry's data. `id` is the request's, 0 when it has none.
  public static func decode(
    _ bytes: RawSpan
  ) throws(WireError) -> (id: UInt64, request: InternalRequest) {
    var id: UInt64 = 0
    var headerID: UInt64 = 0
    var request = InternalRequest.unknown
    var cursor = WireCursor(all: bytes)
    while let field = try cursor.next(bytes) {
      switch field.number {
      case 1: id = try field.unsigned
      case 100: headerID = try headerIdentity(try field.bytes, bytes)
      case 2:
        _ = try V2Wire.decode(try field.bytes, in: bytes)
        request = .v2(try field.bytes)
      case 3...11: request = try decode(field.number, try field.bytes, bytes)
      case 1000...1299: request = .auth(field.number, try field.bytes)
      case 1300: request = .clusterVersion(try text(1, of: try field.bytes, bytes))
      case 1301: request = try attributes(try field.bytes, bytes)
      case 1302:
        request = .downgrade(
          isEnabled: try Numbers.flag(1, of: try field.bytes, bytes),
          target: try text(2, of: try field.bytes, bytes))
      default: break
      }
    }
    return (id == 0 ? headerID : id, request)
  }

  private static func decode(
    _ number: Int, _ message: Slice, _ bytes: RawSpan
  ) throws(WireError) -> InternalRequest {
    switch number {
    case 3: return .range(try RangeRequest(message, in: bytes))
    case 4: return .put(try PutRequest(message, in: bytes))
    case 5: return .deleteRange(try DeleteRangeRequest(message, in: bytes))
    case 6: return .txn(try TxnRequest(message, in: bytes))
    case 7: return .compaction(try Numbers(message, in: bytes))
    case 8: return .leaseGrant(try Numbers(message, in: bytes))
    case 9: return .leaseRevoke(try Numbers(message, in: bytes))
    case 10: return .alarm(try Numbers(message, in: bytes))
    default:
      var checkpoints: [(lease: LeaseID, remaining: Int64)] = []
      var cursor = WireCursor(message)
      while let field = try cursor.next(bytes) {
        guard field.number == 1 else { continue }
        let numbers = try Numbers(try field.bytes, in: bytes)
        checkpoints.append((LeaseID(numbers.signed(1)), numbers.signed(2)))
      }
      return .leaseCheckpoint(checkpoints)
    }
  }

  private static func headerIdentity(
    _ message: Slice, _ bytes: RawSpan
  ) throws(WireError) -> UInt64 {
    var id: UInt64 = 0
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      if field.number == 1 { id = try field.unsigned }
    }
    return id
  }

  private static func text(
    _ number: Int, of message: Slice, _ bytes: RawSpan
  ) throws(WireError) -> Slice {
    var text = Slice.empty
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      if field.number == number { text = try field.bytes }
    }
    return text
  }

  private static func attributes(
    _ message: Slice, _ bytes: RawSpan
  ) throws(WireError) -> InternalRequest {
    var member = NodeID.none
    var name = Slice.empty
    var clientURLs: [Slice] = []
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      if field.number == 1 { member = NodeID(try field.unsigned) }
      guard field.number == 2 else { continue }
      var inner = WireCursor(try field.bytes)
      while let part = try inner.next(bytes) {
        if part.number == 1 { name = try part.bytes }
        if part.number == 2 { clientURLs.append(try part.bytes) }
      }
    }
    return .memberAttributes(member, name: name, clientURLs: clientURLs)
  }

  /// Adds the data of an entry: the request's own bytes under its field, then the header.
  public static func encode(
    _ field: Field, _ request: RawSpan, id: UInt64, into bytes: inout [UInt8]
  ) {
    encode(number: field.rawValue, request, id: id, into: &bytes)
  }

  static func encode(number: Int, _ request: RawSpan, id: UInt64, into bytes: inout [UInt8]) {
    // etcd writes fields in order of their numbers; the header has 100.
    if number < 100 { bytes.appendMessage(number, request) }
    let mark = bytes.beginMessage(100)
    bytes.appendField(1, id)
    bytes.endMessage(mark)
    if number > 100 { bytes.appendMessage(number, request) }
  }
}

extension Numbers {
  static func flag(
    _ number: Int, of message: Slice, _ bytes: RawSpan
  ) throws(WireError) -> Bool {
    var flag = false
    var cursor = WireCursor(message)
    while let field = try cursor.next(bytes) {
      if field.number == number { flag = try field.bool }
    }
    return flag
  }
}
