import API
import Auth
import Basics
import Replica
import Services
import Testing

/// Requests of the auth service, and a member that has users.
extension Request {
  static func user(_ name: String, _ password: String = "", noPassword: Bool? = nil) -> [UInt8] {
    var bytes = make((1, .text(name)), (2, .text(password)))
    if let noPassword {
      bytes += make((3, .message(make((1, .number(noPassword ? 1 : 0))))))
    }
    return bytes
  }

  static func pair(_ name: String, _ role: String) -> [UInt8] {
    make((1, .text(name)), (2, .text(role)))
  }

  static func name(_ name: String) -> [UInt8] { make((1, .text(name))) }

  /// kind: 0 read, 1 write, 2 both.
  static func grant(_ role: String, _ kind: Int64, _ key: String, end: String = "") -> [UInt8] {
    let permission = make((1, .number(kind)), (2, .text(key)), (3, .text(end)))
    return make((1, .text(role)), (2, .message(permission)))
  }

  static func revoke(_ role: String, _ key: String, end: String = "") -> [UInt8] {
    make((1, .text(role)), (2, .text(key)), (3, .text(end)))
  }

  static func watch(_ key: String, end: String = "", from: Int64 = 0) -> [UInt8] {
    make((1, .message(make((1, .text(key)), (2, .text(end)), (3, .number(from))))))
  }
}

extension Harness {
  func token(_ user: String, _ password: String) throws(Failure) -> String {
    try call(.authenticate, Request.user(user, password)).text(2)
  }

  /// A member with checks on: root (password `r`) and alice (password `a`), whose role `mine`
  /// may read and write keys from `m` up to `n`, and read `shared`.
  static func guarded(
    tokens: TokenSettings = TokenSettings()
  ) throws -> (member: Harness, root: String, alice: String) {
    let member = try Harness(tokens: tokens)
    try member.call(.put, Request.put("m1", "mine"))
    try member.call(.put, Request.put("secret", "hers"))
    try member.call(.put, Request.put("shared", "all's"))
    try member.call(.userAdd, Request.user("root", "r"))
    try member.call(.userGrantRole, Request.pair("root", "root"))
    try member.call(.userAdd, Request.user("alice", "a"))
    try member.call(.roleAdd, Request.name("mine"))
    try member.call(.roleGrantPermission, Request.grant("mine", 2, "m", end: "n"))
    try member.call(.roleGrantPermission, Request.grant("mine", 0, "shared"))
    try member.call(.userGrantRole, Request.pair("alice", "mine"))
    try member.call(.authEnable, [])
    return (member, try member.token("root", "r"), try member.token("alice", "a"))
  }
}
