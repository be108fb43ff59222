internal import Basics
internal import CEtcdProtos

/// Walks `bytes` as a message of `descriptor` without building it: protobuf-c recurses without
/// a limit, merges repeated sub-messages at quadratic cost and cuts strings at a zero byte, so
/// what would make it do so is refused here. Linear; allocates nothing.
@unsafe func scan(
  _ bytes: RawSpan, as descriptor: UnsafePointer<ProtobufCMessageDescriptor>
) throws(DecodeError) {
  guard bytes.byteCount <= MessageLimits.bytesMax else {
    throw DecodeError(.illegalLength, at: 0)
  }
  let whole = Slice(start: 0, count: bytes.byteCount)
  try unsafe scan(bytes, in: whole, as: descriptor, depth: 1)
}

@unsafe private func scan(
  _ bytes: RawSpan, in slice: Slice, as descriptor: UnsafePointer<ProtobufCMessageDescriptor>,
  depth: Int
) throws(DecodeError) {
  guard depth <= MessageLimits.depthMax else {
    throw DecodeError(.tooDeep, at: Int(slice.start))
  }
  var reader = ProtoReader(bytes, in: slice)
  var pieces = 0
  while let tag = try reader.nextTag() {
    let offset = reader.offset
    guard tag.wire != .startGroup else { throw DecodeError(.group, at: offset) }
    let field = unsafe protobuf_c_message_descriptor_get_field(descriptor, UInt32(tag.field))
    guard let field = unsafe field else {
      try reader.skip(tag)
      continue
    }
    let type = unsafe field.pointee.type
    let isRepeated = unsafe field.pointee.label == PROTOBUF_C_LABEL_REPEATED
    guard fits(tag.wire, type, isRepeated: isRepeated) else {
      throw DecodeError(.wrongWireType, at: tag.offset)
    }
    guard tag.wire == .lengthDelimited else {
      try reader.skip(tag)
      continue
    }
    let content = try reader.bytes(tag)
    if type == PROTOBUF_C_TYPE_MESSAGE {
      if !isRepeated {
        pieces += 1
        guard unsafe pieces <= Int(descriptor.pointee.n_fields) + MessageLimits.repeatsMax else {
          throw DecodeError(.tooManyPieces, at: offset)
        }
      }
      let inner = unsafe field.pointee.descriptor!.assumingMemoryBound(
        to: ProtobufCMessageDescriptor.self)
      try unsafe scan(bytes, in: content, as: inner, depth: depth + 1)
    } else if type == PROTOBUF_C_TYPE_STRING {
      for i in content.range where bytes[i] == 0 {
        throw DecodeError(.zeroInString, at: i)
      }
    }
  }
}

/// Whether a field of `type` may come as `wire`. protobuf-c takes a `bool` in any.
private func fits(_ wire: WireType, _ type: ProtobufCType, isRepeated: Bool) -> Bool {
  switch type {
  case PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_BYTES, PROTOBUF_C_TYPE_MESSAGE:
    wire == .lengthDelimited
  default:
    // etcd's messages have no fields of fixed width.
    wire == .varint || (isRepeated && wire == .lengthDelimited)
  }
}
