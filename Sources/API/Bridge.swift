internal import Basics
internal import CEtcdProtos

/// A message as protobuf-c unpacked it; freed with its owner.
@safe struct UnpackedMessage: ~Copyable {
  private let pointer: UnsafeMutablePointer<ProtobufCMessage>

  private init(_ pointer: UnsafeMutablePointer<ProtobufCMessage>) {
    unsafe self.pointer = unsafe pointer
  }

  deinit { unsafe protobuf_c_message_free_unpacked(pointer, nil) }

  /// Scans `bytes` against the limits, then unpacks them as the message at `table` of
  /// `martlet_message`. Linear in the bytes; allocates what protobuf-c does.
  static func unpack(_ bytes: RawSpan, table: Int) throws(DecodeError) -> UnpackedMessage {
    let descriptor = unsafe martlet_message(table)!
    try unsafe scan(bytes, as: descriptor)
    let unpacked = unsafe bytes.withUnsafeBytes { raw in
      unsafe protobuf_c_message_unpack(
        descriptor, nil, raw.count, raw.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
    guard let unpacked = unsafe unpacked else {
      throw DecodeError(.refused, at: 0)
    }
    return unsafe UnpackedMessage(unpacked)
  }

  /// The C struct; valid while the owner lives.
  @unsafe func view<T>(as type: T.Type) -> UnsafePointer<T> {
    unsafe UnsafePointer(UnsafeRawPointer(pointer).assumingMemoryBound(to: type))
  }
}

/// The memory of one message on its way into protobuf-c.
@safe struct PackArena: ~Copyable {
  private var blocks: [UnsafeMutableRawPointer] = unsafe []

  deinit {
    unsafe blocks.forEach { unsafe $0.deallocate() }
  }

  private mutating func block(_ byteCount: Int) -> UnsafeMutableRawPointer {
    let block = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 16)
    unsafe blocks.append(block)
    return unsafe block
  }

  /// A message of the table with all fields at their defaults.
  mutating func message<T>(table: Int, as type: T.Type) -> UnsafeMutablePointer<T> {
    let memory = unsafe block(MemoryLayout<T>.size)
    let descriptor = unsafe martlet_message(table)!
    unsafe precondition(descriptor.pointee.sizeof_message == MemoryLayout<T>.size)
    unsafe protobuf_c_message_init(descriptor, memory)
    return unsafe memory.assumingMemoryBound(to: type)
  }

  mutating func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
    guard !bytes.isEmpty else { return unsafe ProtobufCBinaryData(len: 0, data: nil) }
    let memory = unsafe block(bytes.count)
    unsafe bytes.withUnsafeBytes {
      unsafe memory.copyMemory(from: $0.baseAddress!, byteCount: $0.count)
    }
    return unsafe ProtobufCBinaryData(
      len: bytes.count, data: memory.assumingMemoryBound(to: UInt8.self))
  }

  /// A C string; ends at the first zero byte of `text`.
  mutating func text(_ text: String) -> UnsafeMutablePointer<CChar> {
    var text = text
    return text.withUTF8 { utf8 in
      let memory = unsafe block(utf8.count + 1)
      if let base = utf8.baseAddress {
        unsafe memory.copyMemory(from: base, byteCount: utf8.count)
      }
      unsafe memory.storeBytes(of: 0, toByteOffset: utf8.count, as: UInt8.self)
      return unsafe memory.assumingMemoryBound(to: CChar.self)
    }
  }

  mutating func array<T>(of count: Int) -> UnsafeMutablePointer<T>? {
    guard count > 0 else { return nil }
    return unsafe block(count * MemoryLayout<T>.stride).bindMemory(to: T.self, capacity: count)
  }

  /// Appends the wire form of `message`, whose first member is a `ProtobufCMessage`.
  func pack<T>(_ message: UnsafeMutablePointer<T>, into bytes: inout [UInt8]) {
    let base = unsafe UnsafeRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
    let size = unsafe protobuf_c_message_get_packed_size(base)
    let wire = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
      count = unsafe size == 0 ? 0 : protobuf_c_message_pack(base, buffer.baseAddress!)
    }
    precondition(wire.count == size)
    bytes.append(contentsOf: wire)
  }
}

/// A copy of C bytes.
func bytes(_ data: ProtobufCBinaryData) -> [UInt8] {
  unsafe [UInt8](UnsafeBufferPointer(start: data.data, count: data.len))
}

/// A copy of a C string, with what is no UTF-8 replaced.
func text(_ pointer: UnsafePointer<CChar>?) -> String {
  guard let pointer = unsafe pointer else { return "" }
  return unsafe String(cString: pointer)
}

/// Enums are open: C holds them unsigned, Swift as the `int32` that they are on the wire.
func signed(_ value: UInt32) -> Int32 { Int32(bitPattern: value) }
func unsigned(_ value: Int32) -> UInt32 { UInt32(bitPattern: value) }
