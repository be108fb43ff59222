public import API
public import Auth
internal import Basics

/// Requests of the auth service on their way into the log. What goes there can be read again by
/// every member, and holds no password.
public enum AuthRequests {
  /// The request as it is to be proposed; throws when it is none of that kind.
  public static func proposal(
    _ kind: RaftRequestKind, _ message: RawSpan
  ) throws(DecodeError) -> [UInt8] {
    let fields = try ByteFields(strict: message)
    var bytes: [UInt8] = []
    for number in 1...3 {
      guard let slice = fields[number] else { continue }
      if kind == .authRoleGrantPermission, number == 2 {
        AuthRecords.append(
          try AuthRecords.permission(message, in: slice), field: number, to: &bytes)
      } else {
        bytes.appendField(number, message.extracting(slice))
      }
    }
    return bytes
  }

  /// AuthUserAddRequest, AuthUserChangePasswordRequest or AuthenticateRequest.
  public struct Login: Sendable {
    public var name: AuthName
    public var password: [UInt8]
    /// What AuthUserAdd may ask for; nil when it says nothing of it.
    public var noPassword: Bool?

    public init(_ message: RawSpan) throws(DecodeError) {
      let fields = try ByteFields(strict: message)
      name = fields.bytes(1, message)
      password = fields.bytes(2, message)
      if let options = fields[3] { noPassword = try Numbers(message, in: options)[1] != 0 }
    }
  }

  /// AuthUserAddRequest with the hash in the password's place; `hash` nil: the user has none.
  public static func userAdd(_ login: Login, hash: [UInt8]?) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, login.name.rawSpan)
    if let noPassword = login.noPassword {
      let mark = bytes.beginField(3, expecting: 2)
      bytes.appendField(1, noPassword)
      bytes.endField(mark)
    }
    if let hash { bytes.appendField(4, Base64.encode(hash).rawSpan) }
    return bytes
  }

  /// AuthUserChangePasswordRequest with the hash in the password's place.
  public static func changePassword(_ login: Login, hash: [UInt8]?) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, login.name.rawSpan)
    if let hash { bytes.appendField(3, Base64.encode(hash).rawSpan) }
    return bytes
  }

  /// InternalAuthenticateRequest, after the password was found right. `tokenPrefix`: secret
  /// letters, empty when tokens are signed.
  public static func authenticate(_ login: Login, tokenPrefix: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, login.name.rawSpan)
    bytes.appendField(3, tokenPrefix.rawSpan)
    return bytes
  }
}
