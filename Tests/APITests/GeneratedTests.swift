import API
import Basics
import Testing

/// `hex` as bytes; blanks are ignored.
func hex(_ text: String) -> [UInt8] {
  let digits = text.filter { !$0.isWhitespace }.compactMap(\.hexDigitValue)
  return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

@Suite struct GeneratedTests {
  @Test func `a put request comes back as it went`() throws {
    let put = PutRequest(key: [1, 0, 2], value: [9], lease: -5, prevKV: true)
    var wire: [UInt8] = []
    put.encode(into: &wire)
    #expect(wire == hex("0a03010002 120109 18fbffffffffffffffff01 2001"))
    #expect(try PutRequest(decoding: wire.rawSpan) == put)
  }

  @Test func `a nested transaction comes back as it went`() throws {
    let compare = Compare(
      result: .notEqual, target: .value, key: [7], rangeEnd: [8], targetUnion: .value([]))
    let inner = TxnRequest(
      compare: [compare], success: [RequestOp(request: .requestPut(PutRequest(key: [1])))])
    let outer = TxnRequest(
      failure: [
        RequestOp(request: .requestTxn(inner)), RequestOp(),
        RequestOp(request: .requestRange(RangeRequest(sortOrder: .descend))),
      ])
    var wire: [UInt8] = []
    outer.encode(into: &wire)
    #expect(try TxnRequest(decoding: wire.rawSpan) == outer)
  }

  @Test func `proto2 messages hold their zeros as etcd writes them`() {
    var wire: [UInt8] = []
    RaftPB.Entry().encode(into: &wire)
    #expect(wire == hex("0800 1000 1800"))
    wire = []
    RaftPB.Entry(data: []).encode(into: &wire)
    #expect(wire == hex("0800 1000 1800 2200"))
    wire = []
    RaftPB.HardState(term: 1, vote: 300).encode(into: &wire)
    #expect(wire == hex("0801 10ac02 1800"))
    wire = []
    RaftPB.ConfState(voters: [1, 300]).encode(into: &wire)
    #expect(wire == hex("0801 08ac02 2800"))
    wire = []
    RaftPB.ConfChange(type: .removeNode, nodeID: 3).encode(into: &wire)
    #expect(wire == hex("0800 1001 1803"))
    wire = []
    RaftPB.Message().encode(into: &wire)
    #expect(
      wire == hex("0800 1000 1800 2000 2800 3000 4000 4a0a 1208 0a02 2800 1000 1800 5000 5800"))
    wire = []
    WALPB.Snapshot(index: 1).encode(into: &wire)
    #expect(wire == hex("0801 1000"))
    wire = []
    RequestV2(id: 1, method: "PUT", prevExist: false).encode(into: &wire)
    #expect(
      wire
        == hex(
          """
          0801 1203505554 1a00 2200 2800 3200 3800 4000 4800 5000 5800 6000 6800 7000 7800 800100
          """))
  }

  @Test func `nesting beyond the limit is refused, not followed`() {
    var nest: [UInt8] = []
    for _ in 0..<2000 {
      var op: [UInt8] = [0x22]
      op.appendVarint(UInt64(nest.count))
      op += nest
      nest = [0x12]
      nest.appendVarint(UInt64(op.count))
      nest += op
    }
    #expect { try TxnRequest(decoding: nest.rawSpan) } throws: {
      ($0 as? DecodeError)?.reason == .tooDeep
    }
  }

  @Test func `a sub-message in too many pieces is refused`() {
    let wire = (0..<400).map { $0 % 2 == 0 ? UInt8(0x0a) : 0 }
    #expect { try PutResponse(decoding: wire.rawSpan) } throws: {
      ($0 as? DecodeError)?.reason == .tooManyPieces
    }
  }
}
