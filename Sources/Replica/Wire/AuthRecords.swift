internal import API
internal import Auth
internal import Basics

/// The records of users and roles, byte for byte etcd's (api/authpb).
enum AuthRecords {
  static let enabledKey = [UInt8]("authEnabled")
  static let revisionKey = [UInt8]("authRevision")

  static func encode(_ user: AuthUser) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, user.name.rawSpan)
    bytes.appendField(2, user.passwordHash.rawSpan)
    for role in user.roles { bytes.appendMessage(3, role.rawSpan) }
    if let noPassword = user.noPassword {
      let options = bytes.beginField(4, expecting: 2)
      bytes.appendField(1, noPassword)
      bytes.endField(options)
    }
    return bytes
  }

  static func encode(_ role: AuthRole) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendField(1, role.name.rawSpan)
    for permission in role.permissions { append(permission, field: 2, to: &bytes) }
    return bytes
  }

  static func append(_ permission: Permission, field: Int, to bytes: inout [UInt8]) {
    let mark = bytes.beginField(field, expecting: 0)
    bytes.appendField(1, permission.kind.rawValue)
    bytes.appendField(2, permission.range.key.rawSpan)
    bytes.appendField(3, permission.range.end.rawSpan)
    bytes.endField(mark)
  }

  static func encode(revision: UInt64) -> [UInt8] {
    [UInt8](bigEndian: revision)
  }

  static func user(_ bytes: RawSpan) throws(DecodeError) -> AuthUser {
    var user = AuthUser(name: [])
    var reader = ProtoReader(bytes)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: user.name = bytes.extracting(try reader.bytes(tag)).copied()
      case 2: user.passwordHash = bytes.extracting(try reader.bytes(tag)).copied()
      case 3: user.roles.append(bytes.extracting(try reader.bytes(tag)).copied())
      case 4: user.noPassword = try Numbers(bytes, in: try reader.bytes(tag))[1] != 0
      default: try reader.skip(tag)
      }
    }
    return user
  }

  static func role(_ bytes: RawSpan) throws(DecodeError) -> AuthRole {
    var role = AuthRole(name: [])
    var reader = ProtoReader(bytes)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: role.name = bytes.extracting(try reader.bytes(tag)).copied()
      case 2: role.permissions.append(try permission(bytes, in: try reader.bytes(tag)))
      default: try reader.skip(tag)
      }
    }
    return role
  }

  static func permission(
    _ bytes: RawSpan, in message: Slice
  ) throws(DecodeError) -> Permission {
    var kind: Int64 = 0
    var range = KeyRange(key: [])
    var reader = ProtoReader(bytes, in: message)
    while let tag = try reader.nextTag() {
      switch tag.field {
      case 1: kind = try reader.int64(tag)
      case 2: range.key = bytes.extracting(try reader.bytes(tag)).copied()
      case 3: range.end = bytes.extracting(try reader.bytes(tag)).copied()
      default: try reader.skip(tag)
      }
    }
    return Permission(Permission.Kind(rawValue: kind), range)
  }

  static func revision(_ bytes: RawSpan) -> UInt64? {
    bytes.byteCount >= 8 ? bytes.bigEndian() : nil
  }
}

/// The length-delimited fields of a small request; those that repeat count once, the last.
/// For the requests of the auth service.
struct ByteFields {
  private var fields: [(number: Int, slice: Slice)] = []

  init(_ bytes: RawSpan, in message: Slice) throws(DecodeError) {
    var reader = ProtoReader(bytes, in: message)
    while let tag = try reader.nextTag() {
      guard tag.wire == .lengthDelimited else {
        try reader.skip(tag)
        continue
      }
      fields.append((tag.field, try reader.bytes(tag)))
    }
  }

  /// The same of a whole message, all of whose first four fields have to be of that kind.
  init(strict message: RawSpan) throws(DecodeError) {
    var reader = ProtoReader(message)
    while let tag = try reader.nextTag() {
      guard tag.wire == .lengthDelimited else {
        if tag.field <= 4 { throw DecodeError(.wrongWireType, at: tag.offset) }
        try reader.skip(tag)
        continue
      }
      fields.append((tag.field, try reader.bytes(tag)))
    }
  }

  /// Where a field lies; nil when it is not there.
  subscript(_ number: Int) -> Slice? { fields.last { $0.number == number }?.slice }

  func bytes(_ number: Int, _ source: RawSpan) -> [UInt8] {
    self[number].map { source.extracting($0).copied() } ?? []
  }
}
