import Basics
import MVCC
import Testing

@Suite struct `Event batch` {
  /// key "ab", create_revision 7, mod_revision 9, version 2, value "xyz", lease 1
  static let row: [UInt8] = [
    0x0a, 2, 0x61, 0x62, 0x10, 7, 0x18, 9, 0x20, 2, 0x2a, 3, 0x78, 0x79, 0x7a, 0x30, 1,
  ]

  @Test func `a put names its key inside the encoded key value`() throws {
    var batch = EventBatch()
    let taken = batch.appendPut(Self.row.rawSpan, at: Revision(main: 9, sub: 0))
    #expect(taken)
    let event = try #require(batch.events.first)
    #expect(Array(batch.arena[event.key.range]) == [0x61, 0x62])
    #expect(Array(batch.arena[event.keyValue.range]) == Self.row)
    #expect(event.kind == .put && !event.isCreate)
  }

  @Test func `the put that made the key is a create`() {
    var batch = EventBatch()
    let taken = batch.appendPut(Self.row.rawSpan, at: Revision(main: 7, sub: 0))
    #expect(taken)
    #expect(batch.events[0].isCreate)
  }

  @Test func `a delete carries key and mod revision`() {
    var batch = EventBatch()
    let tombstone: [UInt8] = [0x0a, 2, 0x61, 0x62]
    let taken = batch.appendDelete(row: tombstone.rawSpan, at: Revision(main: 300, sub: 1))
    #expect(taken)
    let event = batch.events[0]
    #expect(Array(batch.arena[event.keyValue.range]) == tombstone + [0x18, 0xac, 0x02])
    #expect(Array(batch.arena[event.key.range]) == [0x61, 0x62])
    #expect(batch.firstRevision == 300 && batch.lastRevision == 300)
  }

  @Test func `bytes that are no key value are refused`() {
    var batch = EventBatch()
    for cut in 1..<9 where ![4, 6, 8].contains(cut) {
      let bytes = Array(Self.row.prefix(cut))
      let taken = batch.appendPut(bytes.rawSpan, at: Revision(main: 1, sub: 0))
      #expect(!taken)
    }
    let endless = [UInt8](repeating: 0xff, count: 40)
    let taken = batch.appendPut(endless.rawSpan, at: Revision(main: 1, sub: 0))
    #expect(!taken)
    #expect(batch.isEmpty && batch.arena.isEmpty)
  }
}
