internal import API
internal import Basics
internal import Services

/// A request of the KV service, as clients make it and as the model carries it out.
enum Request {
  case put(key: [UInt8], value: [UInt8], lease: LeaseID, previous: Bool)
  case delete(key: [UInt8], end: [UInt8])
  case range(key: [UInt8], end: [UInt8], revision: Int64, isSerializable: Bool)
  case txn([Compare], success: [Request], failure: [Request])

  struct Compare {
    enum Target {
      case mod(Int64)
      case created(Int64)
      case version(Int64)
    }
    var key: [UInt8]
    /// Always for equality.
    var target: Target
  }

  var method: Method {
    switch self {
    case .put: .put
    case .delete: .deleteRange
    case .range: .range
    case .txn: .txn
    }
  }

  var isSerializable: Bool {
    if case .range(_, _, _, let isSerializable) = self { isSerializable } else { false }
  }

  var mayWrite: Bool {
    if case .range = self { false } else { true }
  }

  /// The message; a transaction's operations each with the field of their kind.
  func encode(into bytes: inout [UInt8]) {
    switch self {
    case .put(let key, let value, let lease, let previous):
      bytes.appendField(1, key.rawSpan)
      bytes.appendField(2, value.rawSpan)
      bytes.appendField(3, lease.rawValue)
      bytes.appendField(4, previous)
    case .delete(let key, let end):
      bytes.appendField(1, key.rawSpan)
      bytes.appendField(2, end.rawSpan)
      bytes.appendField(3, true)
    case .range(let key, let end, let revision, let isSerializable):
      bytes.appendField(1, key.rawSpan)
      bytes.appendField(2, end.rawSpan)
      bytes.appendField(4, revision)
      bytes.appendField(7, isSerializable)
    case .txn(let compares, let success, let failure):
      for compare in compares { compare.encode(into: &bytes) }
      for (field, requests) in [(2, success), (3, failure)] {
        for request in requests {
          let outer = bytes.beginField(field, expecting: 64)
          let inner = bytes.beginField(request.operationField, expecting: 60)
          request.encode(into: &bytes)
          bytes.endField(inner)
          bytes.endField(outer)
        }
      }
    }
  }

  /// etcdserverpb.RequestOp
  private var operationField: Int {
    switch self {
    case .range: 1
    case .put: 2
    case .delete: 3
    case .txn: 4
    }
  }
}

extension Request.Compare {
  fileprivate func encode(into bytes: inout [UInt8]) {
    let open = bytes.beginField(1, expecting: 40)
    switch target {
    case .version(let number):
      bytes.appendField(3, key.rawSpan)
      bytes.appendAlways(4, UInt64(bitPattern: number))
    case .created(let number):
      bytes.appendField(2, 1 as UInt64)
      bytes.appendField(3, key.rawSpan)
      bytes.appendAlways(5, UInt64(bitPattern: number))
    case .mod(let number):
      bytes.appendField(2, 2 as UInt64)
      bytes.appendField(3, key.rawSpan)
      bytes.appendAlways(6, UInt64(bitPattern: number))
    }
    bytes.endField(open)
  }
}

/// A response of the KV service, or one operation of a transaction's.
struct Answer {
  var revision: Int64 = 0
  /// Of a range or, being those before it, of a put or delete. Encoded KeyValues.
  var keyValues: [[UInt8]] = []
  /// Keys counted or deleted.
  var count: Int64 = 0
  var succeeded = false
  var answers: [Answer] = []

  init() {}

  /// Nil when it cannot be read.
  init?(_ bytes: RawSpan, of request: Request) {
    var reader = ProtoReader(bytes)
    do throws(DecodeError) {
      while let tag = try reader.nextTag() {
        switch (tag.field, request) {
        case (1, _): revision = try ResponseHeaderView(bytes, in: try reader.bytes(tag)).revision
        case (2, .put), (2, .range), (3, .delete):
          keyValues.append(bytes.extracting(try reader.bytes(tag)).copied())
        case (4, .range), (2, .delete): count = try reader.int64(tag)
        case (2, .txn): succeeded = try reader.bool(tag)
        case (3, .txn(_, let success, let failure)):
          let part = bytes.extracting(try reader.bytes(tag))
          let requests = succeeded ? success : failure
          guard answers.count < requests.count,
            let answer = Answer(operation: part, of: requests[answers.count])
          else { return nil }
          answers.append(answer)
        default: try reader.skip(tag)
        }
      }
    } catch {
      return nil
    }
  }

  private init?(operation bytes: RawSpan, of request: Request) {
    var reader = ProtoReader(bytes)
    guard let tag = try? reader.nextTag(), let slice = try? reader.bytes(tag) else { return nil }
    self.init(bytes.extracting(slice), of: request)
  }
}
