internal import Basics
public import GRPC

/// The HTTP status that stands for a gRPC code. grpc-gateway v1: `HTTPStatusFromCode`.
public func httpStatus(_ code: StatusCode) -> Int {
  switch code {
  case .ok: 200
  case .cancelled: 408
  case .unknown, .internalError, .dataLoss: 500
  case .invalidArgument, .failedPrecondition, .outOfRange: 400
  case .deadlineExceeded: 504
  case .notFound: 404
  case .alreadyExists, .aborted: 409
  case .permissionDenied: 403
  case .unauthenticated: 401
  case .resourceExhausted: 429
  case .unimplemented: 501
  case .unavailable: 503
  }
}

/// The body of a call that failed before its first message.
public func failureBody(_ status: Status) -> [UInt8] {
  JSON.object([
    JSON.Field("error", .string(status.message)),
    JSON.Field("code", .integer(UInt64(status.code.rawValue))),
    JSON.Field("message", .string(status.message)),
  ]).encoded
}

/// The last chunk of a stream that failed. `phrase`: the text of its HTTP status.
public func failureChunk(_ status: Status, phrase: String) -> [UInt8] {
  let error = JSON.object([
    JSON.Field("grpc_code", .integer(UInt64(status.code.rawValue))),
    JSON.Field("http_code", .integer(UInt64(httpStatus(status.code)))),
    JSON.Field("message", .string(status.message)),
    JSON.Field("http_status", .string(phrase)),
  ])
  return JSON.object([JSON.Field("error", error)]).encoded
}

/// Appends one message of a stream, called `name`, as its chunk.
public func appendChunk(
  _ wire: RawSpan, as name: String, to text: inout [UInt8]
) throws(Unreadable) {
  text += [UInt8](#"{"result":"#)
  try appendJSON(wire, as: name, to: &text)
  text += [UInt8]("}\n")
}

/// The wire form of the request that a body describes: of its first document; an empty body is a
/// message without fields.
public func encodeBody(_ body: [UInt8], as name: String) throws(BadRequest) -> [UInt8] {
  let json: JSON?
  do throws(JSON.Malformed) {
    json = try JSON.first(in: body)
  } catch {
    throw BadRequest(saying: error.text)
  }
  guard let json else { return [] }
  return try encode(json, as: name)
}
