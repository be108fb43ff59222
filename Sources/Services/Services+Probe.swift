internal import API
internal import Basics
internal import Replica

extension Services {
  /// Opens a call of the server's own that reads one key, to see whether reads work: answered
  /// with a RangeResponse, or finished with what went wrong. Asks for nobody's permission.
  /// etcd: etcdhttp `checkAPI`.
  public mutating func probe(_ id: CallID, isSerializable: Bool, out: inout Outbox) {
    guard calls.count < limits.callsMax else { return out.finish(id, .tooMany) }
    calls.insert(Call(method: .range, needsLeader: false, deadline: .max), as: id)
    calls.with(id) {
      $0.hasRequest = true
      $0.isOwn = true
    }
    // A key that hardly anyone has, without its value.
    let key: [UInt8] = [0]
    var message: [UInt8] = []
    message.appendField(1, key.rawSpan)
    message.appendField(8, true)
    do throws(Failure) {
      let request = try RangeRequestView(whole: message.rawSpan)
      try read(id, .range(request), message, isSerializable: isSerializable)
    } catch {
      finish(id, error, out: &out)
    }
  }
}
