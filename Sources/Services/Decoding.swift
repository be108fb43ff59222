internal import Basics
internal import Replica

// A message of a call is the whole of its buffer, and one that is no message is refused.

extension RangeRequest {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(Slice(start: 0, count: message.byteCount), in: message) } catch {
      throw .malformed
    }
  }
}

extension PutRequest {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(Slice(start: 0, count: message.byteCount), in: message) } catch {
      throw .malformed
    }
  }
}

extension DeleteRangeRequest {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(Slice(start: 0, count: message.byteCount), in: message) } catch {
      throw .malformed
    }
  }
}

extension TxnRequest {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(Slice(start: 0, count: message.byteCount), in: message) } catch {
      throw .malformed
    }
  }
}

extension Numbers {
  init(whole message: RawSpan) throws(Failure) {
    do { try self.init(Slice(start: 0, count: message.byteCount), in: message) } catch {
      throw .malformed
    }
  }

  /// The numbers among the first four fields, whatever else the message holds.
  init(lenient message: RawSpan) throws(Failure) {
    var numbers: [UInt8] = []
    do throws(WireError) {
      var cursor = WireCursor(all: message)
      while let field = try cursor.next(message) {
        if field.number <= 4, let value = try? field.unsigned {
          numbers.appendField(field.number, value)
        }
      }
    } catch {
      throw .malformed
    }
    try self.init(whole: numbers.rawSpan)
  }
}

/// The texts of a small request, by field number.
struct Texts {
  private var fields: [(number: Int, text: String)] = []

  init(_ message: RawSpan) throws(Failure) {
    do throws(WireError) {
      var cursor = WireCursor(all: message)
      while let field = try cursor.next(message) {
        guard let slice = try? field.bytes else { continue }
        let text = String(decoding: message.extracting(slice).copied(), as: UTF8.self)
        fields.append((field.number, text))
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
