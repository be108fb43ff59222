internal import API
internal import Basics
internal import Replica

// A message of a call is the whole of its buffer, and one that is no message is refused.

extension RangeRequestView {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(message) } catch {
      throw .malformed
    }
  }
}

extension PutRequestView {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(message) } catch {
      throw .malformed
    }
  }
}

extension DeleteRangeRequestView {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(message) } catch {
      throw .malformed
    }
  }
}

extension Txn {
  /// Also what a later member of an operation's union replaces has to be in order: members of etcd
  /// read it when they apply the log.
  init(whole message: RawSpan) throws(Failure) {
    let whole = Slice(start: 0, count: message.byteCount)
    do {
      try TxnRequestView.checkNesting(message, in: whole)
      try self.init(message, in: whole)
    } catch {
      throw .malformed
    }
  }
}

extension CompactionRequestView {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(message) } catch { throw .malformed }
  }
}

extension Numbers {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(message, in: Slice(start: 0, count: message.byteCount)) } catch {
      throw .malformed
    }
  }
}

/// The texts of a small request, by field number.
struct Texts {
  private var fields: [(number: Int, text: String)] = []

  init(_ message: RawSpan) throws(Failure) {
    do throws(DecodeError) {
      var reader = ProtoReader(message)
      while let tag = try reader.nextTag() {
        guard tag.wire == .lengthDelimited else {
          try reader.skip(tag)
          continue
        }
        let slice = try reader.bytes(tag)
        let text = String(decoding: message.extracting(slice).copied(), as: UTF8.self)
        fields.append((tag.field, text))
      }
    } catch {
      throw .malformed
    }
  }

  func first(_ number: Int) -> String { fields.first { $0.number == number }?.text ?? "" }

  func all(_ number: Int) -> [String] {
    fields.compactMap { $0.number == number ? $0.text : nil }
  }
}
