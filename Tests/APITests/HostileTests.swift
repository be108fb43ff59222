import API
import Basics
import Testing

@Suite struct HostileTests {
  /// Bytes that fit no message in particular, read as those that come from outside.
  @Test func `junk is refused or read, never a trap`() {
    var random = Random(seed: 7)
    for _ in 0..<3000 {
      var bytes = random.wire(Subject.allCases[random.next(below: Subject.allCases.count)])
      random.damage(&bytes)
      _ = try? InternalRaftRequest(decoding: bytes.rawSpan)
      _ = try? InternalRaftRequestView(bytes.rawSpan)
      _ = try? AuthRoleGrantPermissionRequest(decoding: bytes.rawSpan)
      _ = try? AlarmRequest(decoding: bytes.rawSpan)
      _ = try? RaftPB.ConfChangeV2(decoding: bytes.rawSpan)
      _ = try? RaftPB.Snapshot(decoding: bytes.rawSpan)
      _ = try? MembershipPB.Member(decoding: bytes.rawSpan)
      _ = try? RequestV2(decoding: bytes.rawSpan)
      _ = try? WatchRequestView(bytes.rawSpan)
      _ = try? LeasePB.LeaseInternalRequest(decoding: bytes.rawSpan)
    }
  }

  /// Each of these costs a codec that looks back at what it has a time that grows squared.
  @Test func `large hostile messages take linear time`() {
    let clock = ContinuousClock()
    let time = clock.measure {
      var pieces: [UInt8] = []
      for _ in 0..<50_000 { pieces += [0x22, 0x02, 0x1a, 0x00] }
      var op: [UInt8] = []
      op.appendMessage(2, pieces.rawSpan)
      _ = try? TxnRequest(decoding: op.rawSpan)
      let whole = Slice(start: 0, count: op.count)
      _ = try? TxnRequestView.checkNesting(op.rawSpan, in: whole)
      let keys = (0..<100_000).map { $0 % 2 == 0 ? UInt8(0x0a) : 0 }
      _ = try? PutRequestView(keys.rawSpan)
      _ = try? PutRequest(decoding: keys.rawSpan)
    }
    #expect(time < .seconds(10))
  }
}
