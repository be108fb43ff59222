/// Why bytes are not the message that they should be, and where that showed.
public struct DecodeError: Error, Hashable, Sendable {
  public enum Reason: Hashable, Sendable {
    /// The message ends inside a field.
    case truncated
    /// A number of more than 10 bytes.
    case overlongVarint
    /// Field number 0, or above what 31 bits hold.
    case illegalTag
    /// A known field in another wire type than its own, or a wire type that does not exist.
    case wrongWireType
    /// An end of a group that was not begun.
    case unexpectedEndGroup
    /// A negative length, or one beyond what a message may have.
    case illegalLength
    /// Messages nested beyond `MessageLimits.depthMax`.
    case tooDeep
    /// One sub-message sent in more pieces than `MessageLimits.repeatsMax`.
    case tooManyPieces
    /// A zero byte in a `string`, which protobuf-c would cut there.
    case zeroInString
    /// An unknown group: protobuf-c has none.
    case group
    /// protobuf-c refused what the scan let pass, or had no memory.
    case refused
  }
  public var reason: Reason
  /// Bytes from the beginning of the buffer.
  public var offset: Int

  public init(_ reason: Reason, at offset: Int) {
    self.reason = reason
    self.offset = offset
  }
}

/// What a message from outside may demand of the decoder.
public enum MessageLimits {
  /// Messages inside messages, as other implementations of protobuf limit it.
  public static let depthMax = 100
  /// Occurrences of singular message fields in one message beyond the number of its fields:
  /// protobuf-c merges each into the one before, at a cost that grows with what is there.
  public static let repeatsMax = 64
  /// Bytes: what a `Slice` can name.
  public static let bytesMax = Int(UInt32.max)
}
