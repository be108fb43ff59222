internal import API
public import Replica

/// The messages of a Snapshot call, which the shell makes from the storage engine.
/// etcd: `maintenanceServer.Snapshot`.
public enum SnapshotMessage {
  /// The next bytes of the file, with the number of those that follow them.
  public static func encode(_ blob: RawSpan, remaining: Int) -> [UInt8] {
    var message: [UInt8] = []
    message.reserveCapacity(blob.byteCount + 16)
    message.appendField(2, UInt64(remaining))
    message.appendField(3, blob)
    return message
  }
}

extension Services {
  /// Sends one message of a Snapshot call.
  public mutating func snapshot(_ id: CallID, _ message: RawSpan, out: inout Outbox) {
    guard calls[id]?.method == .snapshot else { return }
    send(id, .snapshot, message, out: &out)
  }

  /// Ends a Snapshot call.
  public mutating func snapshotEnded(_ id: CallID, _ failure: Failure?, out: inout Outbox) {
    guard calls[id]?.method == .snapshot else { return }
    finish(id, failure, out: &out)
  }
}
