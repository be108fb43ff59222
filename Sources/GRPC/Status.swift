internal import Basics

/// gRPC's status codes (grpc/doc/statuscodes.md).
public enum StatusCode: Int32, Sendable {
  case ok = 0
  case cancelled, unknown, invalidArgument, deadlineExceeded, notFound, alreadyExists
  case permissionDenied, resourceExhausted, failedPrecondition, aborted, outOfRange
  case unimplemented, internalError, unavailable, dataLoss, unauthenticated
}

/// How a call ended: a code and a text for the client.
public struct Status: Error, Equatable, Sendable {
  public var code: StatusCode
  public var message: String
  public init(_ code: StatusCode, _ message: String) {
    self.code = code
    self.message = message
  }
  public static let ok = Status(.ok, "")

  /// The message as the `grpc-message` trailer carries it: UTF-8, with all but printable ASCII,
  /// and '%', as %XX.
  public var encodedMessage: [UInt8] {
    let digits = [UInt8]("0123456789ABCDEF")
    var bytes: [UInt8] = []
    bytes.reserveCapacity(message.utf8.count)
    for byte in message.utf8 {
      if byte >= 0x20, byte <= 0x7e, byte != UInt8(ascii: "%") {
        bytes.append(byte)
      } else {
        bytes.append(UInt8(ascii: "%"))
        bytes.append(digits[Int(byte >> 4)])
        bytes.append(digits[Int(byte & 15)])
      }
    }
    return bytes
  }
}
