internal import CEtcdProtos

/// What protobuf-c's descriptors tell of a message: for code that treats all messages alike.
///
/// Descriptors are constants of the program, so that shapes may be kept and passed around freely.
@safe public struct MessageShape {
  let descriptor: UnsafePointer<ProtobufCMessageDescriptor>

  init(_ descriptor: UnsafePointer<ProtobufCMessageDescriptor>) {
    unsafe self.descriptor = unsafe descriptor
  }

  /// The message of that full name, such as `etcdserverpb.PutRequest`; nil when there is none.
  /// A binary search.
  public init?(named name: String) {
    var low = 0
    var high = martlet_messages_count
    while low < high {
      let middle = (low + high) / 2
      let candidate = unsafe martlet_message(middle)!
      let text = unsafe String(cString: candidate.pointee.name)
      if text == name {
        unsafe descriptor = unsafe candidate
        return
      }
      if text.utf8.lexicographicallyPrecedes(name.utf8) { low = middle + 1 } else { high = middle }
    }
    return nil
  }

  /// The full names of all messages, in bytewise order.
  public static var names: [String] {
    (0..<martlet_messages_count).map {
      unsafe String(cString: martlet_message($0)!.pointee.name)
    }
  }

  public var fieldCount: Int { unsafe Int(descriptor.pointee.n_fields) }

  /// A field by its place in the order of numbers.
  public func field(at place: Int) -> FieldShape {
    precondition(place >= 0 && place < fieldCount)
    return unsafe FieldShape(descriptor.pointee.fields + place)
  }

  /// The field of that number.
  public func field(number: Int) -> FieldShape? {
    let field = unsafe protobuf_c_message_descriptor_get_field(
      descriptor, UInt32(truncatingIfNeeded: number))
    guard let field = unsafe field else { return nil }
    return unsafe FieldShape(field)
  }
}

/// One field of a message.
@safe public struct FieldShape {
  public enum Kind: Sendable {
    case int32, int64, uint32, uint64, bool, enumeration, string, bytes, message
  }

  private let descriptor: UnsafePointer<ProtobufCFieldDescriptor>

  init(_ descriptor: UnsafePointer<ProtobufCFieldDescriptor>) {
    unsafe self.descriptor = unsafe descriptor
  }

  public var number: Int { unsafe Int(descriptor.pointee.id) }
  public var name: String { unsafe String(cString: descriptor.pointee.name) }

  /// Appends the name's bytes.
  public func appendName(to bytes: inout [UInt8]) {
    var at = unsafe descriptor.pointee.name!
    while unsafe at.pointee != 0 {
      unsafe bytes.append(UInt8(bitPattern: at.pointee))
      unsafe at += 1
    }
  }

  /// protobuf's JSON name: underscores go, the letter after one becomes a capital.
  public var jsonName: String {
    var result = ""
    var isRaised = false
    for character in name {
      if character == "_" {
        isRaised = true
      } else {
        result += isRaised ? character.uppercased() : String(character)
        isRaised = false
      }
    }
    return result
  }

  /// etcd's messages have none of protobuf's other kinds.
  public var kind: Kind {
    switch unsafe descriptor.pointee.type {
    case PROTOBUF_C_TYPE_INT32: .int32
    case PROTOBUF_C_TYPE_INT64: .int64
    case PROTOBUF_C_TYPE_UINT32: .uint32
    case PROTOBUF_C_TYPE_UINT64: .uint64
    case PROTOBUF_C_TYPE_BOOL: .bool
    case PROTOBUF_C_TYPE_ENUM: .enumeration
    case PROTOBUF_C_TYPE_STRING: .string
    case PROTOBUF_C_TYPE_BYTES: .bytes
    case PROTOBUF_C_TYPE_MESSAGE: .message
    default: preconditionFailure("a kind of field that etcd does not use")
    }
  }

  public var isRepeated: Bool { unsafe descriptor.pointee.label == PROTOBUF_C_LABEL_REPEATED }

  /// Whether numbers of a repeated field stand in one piece on the wire.
  public var isPacked: Bool {
    unsafe descriptor.pointee.flags & UInt32(PROTOBUF_C_FIELD_FLAG_PACKED.rawValue) != 0
  }

  /// Which union of its message the field belongs to; nil when to none.
  public var union: Int? {
    let flag = UInt32(PROTOBUF_C_FIELD_FLAG_ONEOF.rawValue)
    guard unsafe descriptor.pointee.flags & flag != 0 else { return nil }
    return unsafe Int(descriptor.pointee.quantifier_offset)
  }

  /// Whether a value is written even when it is the default, as unions and proto2 have it.
  public var hasPresence: Bool {
    unsafe union != nil || descriptor.pointee.label == PROTOBUF_C_LABEL_OPTIONAL
      || descriptor.pointee.label == PROTOBUF_C_LABEL_REQUIRED
  }

  /// The shape of a `message` field's value.
  public var message: MessageShape {
    precondition(kind == .message)
    return unsafe MessageShape(
      descriptor.pointee.descriptor!.assumingMemoryBound(to: ProtobufCMessageDescriptor.self))
  }

  // MARK: Enums

  private var enumeration: UnsafePointer<ProtobufCEnumDescriptor> {
    precondition(kind == .enumeration)
    return unsafe descriptor.pointee.descriptor!.assumingMemoryBound(
      to: ProtobufCEnumDescriptor.self)
  }

  /// The full name of an `enumeration` field's type.
  public var enumName: String { unsafe String(cString: enumeration.pointee.name) }

  /// The number of the value called `name`.
  public func enumValue(named name: String) -> Int32? {
    guard !name.utf8.contains(0) else { return nil }
    guard let value = unsafe protobuf_c_enum_descriptor_get_value_by_name(enumeration, name)
    else { return nil }
    return unsafe Int32(value.pointee.value)
  }

  /// The name of the value `number`.
  public func enumName(of number: Int32) -> String? {
    guard let value = unsafe protobuf_c_enum_descriptor_get_value(enumeration, number)
    else { return nil }
    return unsafe String(cString: value.pointee.name)
  }
}
