import Basics
import MVCC
import Replica
import Services
import Testing

@Suite struct Watches {
  private func create(_ key: String, end: String = "", _ more: (Int, Request.Value)...) -> [UInt8] {
    var inner = Request.make((1, .text(key)), (2, .text(end)))
    for field in more { inner += Request.make(field) }
    return Request.make((1, .message(inner)))
  }

  private func watch(_ member: Harness, _ request: [UInt8]) -> CallID {
    let call = member.open(.watch)
    member.send(call, request)
    return call
  }

  private func responses(_ member: Harness, _ call: CallID) -> [Message] {
    member.answers(call).map { Message($0) }
  }

  @Test func `a watch is created and then sees what is written`() throws {
    let member = try Harness()
    let call = watch(member, create("a", end: "c"))
    let created = responses(member, call)
    #expect(created.count == 1 && created[0].number(3) == 1 && created[0].revision == 1)
    #expect(created[0].message(1).number(4) == 2)
    _ = try member.call(.put, Request.put("b", "1"))
    _ = try member.call(.put, Request.put("c", "no"))
    _ = try member.call(.deleteRange, Request.get("b"))
    let seen = responses(member, call).dropFirst().flatMap { $0.messages(11) }
    #expect(seen.map { $0.number(1) } == [0, 1])
    #expect(seen.map { $0.message(2).number(3) } == [2, 4])
    #expect(seen[0].message(2).text(5) == "1")
  }

  @Test func `a watch from the past catches up and goes on without a gap`() throws {
    let member = try Harness()
    for value in 1...5 { _ = try member.call(.put, Request.put("a", "\(value)")) }
    let call = watch(member, create("a", (3, .number(3))))
    _ = try member.call(.put, Request.put("a", "6"))
    let values = responses(member, call).flatMap { $0.messages(11) }.map { $0.message(2).text(5) }
    #expect(values == ["2", "3", "4", "5", "6"])
  }

  @Test func `the previous value comes with the events that have one`() throws {
    let member = try Harness()
    let call = watch(member, create("a", (6, .number(1))))
    _ = try member.call(.put, Request.put("a", "1"))
    _ = try member.call(.put, Request.put("a", "2"))
    _ = try member.call(.deleteRange, Request.get("a"))
    let events = responses(member, call).flatMap { $0.messages(11) }
    #expect(events.map { $0.message(3).text(5) } == ["", "1", "2"])
    #expect(events[0].messages(3).isEmpty)
  }

  @Test func `filters leave out puts or deletes, packed or not`() throws {
    let member = try Harness()
    let noPut = watch(member, create("a", (5, .number(0))))
    let noDelete = watch(member, create("a", (5, .message([1]))))
    _ = try member.call(.put, Request.put("a", "1"))
    _ = try member.call(.deleteRange, Request.get("a"))
    #expect(responses(member, noPut).flatMap { $0.messages(11) }.map { $0.number(1) } == [1])
    #expect(responses(member, noDelete).flatMap { $0.messages(11) }.map { $0.number(1) } == [0])
  }

  @Test func `a watch on compacted history is cancelled with the revision to go on from`() throws {
    let member = try Harness()
    for value in 1...4 { _ = try member.call(.put, Request.put("a", "\(value)")) }
    _ = try member.call(.compact, Request.make((1, .number(4))))
    let call = watch(member, create("a", (3, .number(2))))
    let last = try #require(responses(member, call).last)
    #expect(last.number(4) == 1 && last.number(5) == 4)
    #expect(member.end(call) == nil)
  }

  @Test func `a cancelled watcher is told so and sees no more`() throws {
    let member = try Harness()
    let call = watch(member, create("a"))
    member.send(call, Request.make((2, .message(Request.make((1, .number(0)))))))
    #expect(responses(member, call).last?.number(4) == 1)
    _ = try member.call(.put, Request.put("a", "1"))
    #expect(responses(member, call).count == 2)
  }

  @Test func `progress is told on request and at intervals`() throws {
    let member = try Harness { $0.watch.progressIntervalNanoseconds = 10 * Harness.second }
    let call = watch(member, create("a", (4, .number(1))))
    _ = try member.call(.put, Request.put("b", "1"))
    member.send(call, Request.make((3, .message([]))))
    let answer = try #require(responses(member, call).last)
    #expect(answer.number(2) == -1 && answer.revision == 2 && answer.messages(11).isEmpty)
    let before = member.answers(call).count
    for _ in 0..<4 { member.pass(5 * Harness.second) }
    #expect(member.answers(call).count > before)
    #expect(responses(member, call).last?.revision == 2)
  }

  @Test func `a stream without room gets all of it later, in order and once`() throws {
    let member = try Harness { $0.watch.queuedBytesMax = 100 }
    let call = watch(member, create("a"))
    member.services.writable(call, false)
    for value in 1...50 { _ = try member.call(.put, Request.put("a", "\(value)")) }
    #expect(member.answers(call).count == 1)
    member.services.writable(call, true)
    member.settle()
    let values = responses(member, call).flatMap { $0.messages(11) }.map { $0.message(2).text(5) }
    #expect(values == (1...50).map { "\($0)" })
  }

  @Test func `a half-closed watch goes on, a cancelled one is forgotten`() throws {
    let member = try Harness()
    let call = watch(member, create("a"))
    member.services.halfClosed(call, out: &member.outbox)
    _ = try member.call(.put, Request.put("a", "1"))
    #expect(member.answers(call).count == 2)
    member.services.cancelled(call, out: &member.outbox)
    _ = try member.call(.put, Request.put("a", "2"))
    #expect(member.answers(call).count == 2)
  }

  @Test func `bytes that are no request end the stream`() throws {
    let member = try Harness()
    let call = watch(member, [0x0a, 0x7f])
    #expect(member.end(call) == .some(.malformed))
  }

  @Test func `a client that asks and asks and never reads is sent away`() throws {
    let member = try Harness { $0.watch.controlResponsesMax = 100 }
    let call = watch(member, create("a"))
    let cancel = Request.make((2, .message(Request.make((1, .number(1))))))
    for _ in 0..<1000 { member.send(call, create("b") + cancel) }
    #expect(member.end(call) == nil)
    member.services.writable(call, false)
    for _ in 0..<100 { member.send(call, create("b")) }
    #expect(member.end(call) == nil)
    member.send(call, create("b"))
    #expect(member.end(call) == .some(.tooMany))
  }
}
