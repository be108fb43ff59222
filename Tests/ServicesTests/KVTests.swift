import Basics
import Replica
import Services
import Testing

@Suite struct KeyValues {
  @Test func `a put is answered with header and revision, a range finds it`() throws {
    let member = try Harness()
    let put = try member.call(.put, Request.put("a", "1"))
    #expect(put.message(1).number(1) == Int64(bitPattern: Harness.cluster.rawValue))
    #expect(put.message(1).number(2) == Int64(bitPattern: Harness.member.rawValue))
    #expect(put.revision == 2)
    #expect(put.message(1).number(4) == 2)
    let range = try member.call(.range, Request.get("a"))
    #expect(range.revision == 2)
    #expect(range.number(4) == 1)
    let found = range.message(2)
    #expect(found.text(1) == "a" && found.text(5) == "1")
    #expect([2, 3, 4].map(found.number) == [2, 2, 1])
  }

  @Test func `the previous value comes with a put and a delete that ask for it`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    let put = try member.call(.put, Request.put("a", "2", previous: true))
    #expect(put.message(2).text(5) == "1")
    let delete = try member.call(
      .deleteRange, Request.make((1, .text("a")), (2, .text("b")), (3, .number(1))))
    #expect(delete.number(2) == 1)
    #expect(delete.message(3).text(5) == "2")
    #expect(delete.revision == 4)
    #expect(try member.call(.deleteRange, Request.get("a")).revision == 4)
  }

  @Test func `a range honours limit, order, revision and what is to be left out`() throws {
    let member = try Harness()
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2")] {
      _ = try member.call(.put, Request.put(key, value))
    }
    let all = Request.get("a", end: "z")
    let limited = try member.call(.range, all + Request.make((3, .number(2))))
    #expect(limited.messages(2).map { $0.text(1) } == ["a", "b"])
    #expect(limited.number(3) == 1)
    #expect(limited.number(4) == 3)
    let byValue = try member.call(.range, all + Request.make((5, .number(2)), (6, .number(4))))
    #expect(byValue.messages(2).map { $0.text(1) } == ["a", "c", "b"])
    let past = try member.call(.range, all + Request.make((4, .number(3))))
    #expect(past.messages(2).count == 2)
    let keys = try member.call(.range, all + Request.make((8, .number(1))))
    #expect(keys.messages(2).map { $0.text(5) } == ["", "", ""])
    let count = try member.call(.range, all + Request.make((9, .number(1))))
    #expect(count.messages(2).isEmpty && count.number(4) == 3)
    let recent = try member.call(.range, all + Request.make((10, .number(4))))
    #expect(recent.messages(2).map { $0.text(1) } == ["c"])
  }

  @Test func `requests are refused with etcd's words`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    let cases: [(Method, [UInt8], Failure)] = [
      (.put, Request.put("", "1"), .emptyKey),
      (.range, [], .emptyKey),
      (.deleteRange, [], .emptyKey),
      (.put, Request.put("a", "1") + Request.make((5, .number(1))), .valueProvided),
      (.put, Request.put("a", "", lease: 7) + Request.make((6, .number(1))), .leaseProvided),
      (.put, Request.put("x", "") + Request.make((5, .number(1))), .keyNotFound),
      (.put, Request.put("a", "1", lease: 99), .leaseNotFound),
      (.range, Request.get("a") + Request.make((4, .number(77))), .futureRevision),
      (.compact, Request.make((1, .number(77))), .futureRevision),
      (.leaseRevoke, Request.make((1, .number(5))), .leaseNotFound),
      (.range, [0xff], .malformed),
    ]
    for (method, request, failure) in cases {
      #expect(throws: failure) { try member.call(method, request) }
    }
  }

  @Test func `a put may keep value or lease of the key`() throws {
    let member = try Harness()
    _ = try member.call(.leaseGrant, Request.make((1, .number(60)), (2, .number(9))))
    _ = try member.call(.put, Request.put("a", "1", lease: 9))
    _ = try member.call(.put, Request.put("a", "2") + Request.make((6, .number(1))))
    let kept = try member.call(.range, Request.get("a")).message(2)
    #expect(kept.text(5) == "2" && kept.number(6) == 9)
    _ = try member.call(.put, Request.put("a", "") + Request.make((5, .number(1))))
    let value = try member.call(.range, Request.get("a")).message(2)
    #expect(value.text(5) == "2" && value.number(6) == 0)
  }

  @Test func `compaction ends what may be read, and a physical one is answered when done`() throws {
    let member = try Harness()
    for value in ["1", "2", "3"] { _ = try member.call(.put, Request.put("a", value)) }
    let compact = try member.call(.compact, Request.make((1, .number(3)), (2, .number(1))))
    #expect(compact.revision == 4)
    #expect(throws: Failure.compacted) {
      try member.call(.range, Request.get("a") + Request.make((4, .number(2))))
    }
    #expect(throws: Failure.compacted) {
      try member.call(.compact, Request.make((1, .number(3))))
    }
  }

  @Test func `a proposal larger than the limit is refused`() throws {
    let member = try Harness { $0.requestBytesMax = 100 }
    let value = String(repeating: "x", count: 100)
    #expect(throws: Failure.tooLarge) { try member.call(.put, Request.put("a", value)) }
    #expect(throws: Never.self) { try member.call(.put, Request.put("a", "x")) }
  }
}

@Suite struct Transactions {
  @Test(
    arguments: [
      (0, 4, 1, 2), (1, 5, 2, 3), (2, 6, 2, 3), (4, 8, 0, 1),
    ] as [(Int64, Int, Int64, Int64)])
  func `numbers of a key are compared in all four ways`(
    target: Int64, field: Int, equal: Int64, other: Int64
  ) throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    func holds(_ number: Int64, _ result: Int64) throws -> Bool {
      let compare = Request.compare("a", target: target, (field, .number(number)), result: result)
      return try member.call(.txn, Request.txn([compare], [(1, Request.get("a"))])).number(2) == 1
    }
    #expect(try holds(equal, 0) && !holds(other, 0))
    #expect(try holds(equal - 1, 1) && !holds(equal, 1))
    #expect(try holds(other, 2) && !holds(equal, 2))
    #expect(try holds(other, 3) && !holds(equal, 3))
  }

  @Test func `values are compared, and one that is not there equals nothing`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "5"))
    func holds(_ key: String, _ value: String, _ result: Int64) throws -> Bool {
      let compare = Request.compare(key, target: 3, (7, .text(value)), result: result)
      return try member.call(.txn, Request.txn([compare], [(2, Request.put("t", ""))]))
        .number(2) == 1
    }
    #expect(try holds("a", "5", 0) && holds("a", "4", 1) && holds("a", "6", 2))
    #expect(try holds("a", "6", 3) && !holds("a", "5", 3))
    #expect(try !holds("none", "", 0) && !holds("none", "x", 3))
  }

  @Test func `a compare without result means equal, and a key not there has revision 0`() throws {
    let member = try Harness()
    let compare = Request.make((2, .number(1)), (3, .text("a")))
    let txn = Request.txn([compare], [(2, Request.put("a", "1"))], [(1, Request.get("a"))])
    #expect(try member.call(.txn, txn).number(2) == 1)
    #expect(try member.call(.txn, txn).number(2) == 0)
  }

  @Test func `a compare over a range holds when it holds for every key`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    _ = try member.call(.put, Request.put("b", "1"))
    func holds(_ value: String) throws -> Bool {
      let compare =
        Request.compare("a", target: 3, (7, .text(value))) + Request.make((64, .text("z")))
      return try member.call(.txn, Request.txn([compare], [])).number(2) == 1
    }
    #expect(try holds("1"))
    _ = try member.call(.put, Request.put("b", "2"))
    #expect(try !holds("1"))
  }

  @Test(arguments: [2, 3])
  func `an operation is refused for what its union's last member hides`(branch: Int) throws {
    let member = try Harness()
    let nested = Request.make((2, .message([0x0a])))
    for hidden in [[0x0a], nested] as [[UInt8]] {
      let operation = Request.make((4, .message(hidden)), (2, .message(Request.put("a", "1"))))
      #expect(throws: Failure.malformed) {
        try member.call(.txn, Request.make((branch, .message(operation))))
      }
    }
    #expect(try member.call(.range, Request.get("a")).number(4) == 0)
  }

  @Test func `operations answer in order and see what was written before them`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("d", "old"))
    let txn = Request.txn(
      [],
      [
        (1, Request.get("a")), (2, Request.put("a", "1")), (1, Request.get("a")),
        (3, Request.get("d") + Request.make((3, .number(1)))), (1, Request.get("d")),
      ])
    let answer = try member.call(.txn, txn)
    #expect(answer.revision == 3)
    let parts = answer.messages(3)
    #expect(parts.count == 5)
    #expect(parts[0].message(1).number(4) == 0)
    #expect(parts[1].message(2).revision == 3)
    #expect(parts[2].message(1).message(2).text(5) == "1")
    #expect(parts[3].message(3).number(2) == 1)
    #expect(parts[3].message(3).message(3).text(5) == "old")
    #expect(parts[4].message(1).number(4) == 0)
  }

  @Test func `nested transactions choose on the state before the whole`() throws {
    let member = try Harness()
    let absent = Request.compare("a", target: 1, (5, .number(0)))
    let inner = Request.txn([absent], [(2, Request.put("b", "in"))], [(2, Request.put("c", "no"))])
    let outer = Request.txn([absent], [(2, Request.put("a", "out")), (4, inner)])
    let answer = try member.call(.txn, outer)
    #expect(answer.messages(3)[1].message(4).number(2) == 1)
    #expect(try member.call(.range, Request.get("b")).number(4) == 1)
    #expect(try member.call(.range, Request.get("c")).number(4) == 0)
    #expect(answer.revision == 2)
  }

  @Test func `a transaction of ranges is read without the log`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("a", "1"))
    let before = member.index
    let compare = Request.compare("a", target: 0, (4, .number(1)))
    let answer = try member.call(.txn, Request.txn([compare], [(1, Request.get("a"))]))
    #expect(answer.messages(3)[0].message(1).message(2).text(5) == "1")
    #expect(member.index == before)
    #expect(answer.revision == 2)
  }

  @Test func `what would write a key twice is refused`() throws {
    let member = try Harness()
    let put = (2, Request.put("a", "1"))
    let delete = (3, Request.get("a", end: "c"))
    let nested = (4, Request.txn([], [put]))
    let either = (4, Request.txn([], [put], [put]))
    for ops in [[put, put], [delete, put], [nested, put], [nested, nested], [delete, nested]] {
      #expect(throws: Failure.duplicateKey) { try member.call(.txn, Request.txn([], ops)) }
      #expect(throws: Failure.duplicateKey) { try member.call(.txn, Request.txn([], [], ops)) }
    }
    #expect(throws: Never.self) { try member.call(.txn, Request.txn([], [either])) }
    #expect(throws: Never.self) { try member.call(.txn, Request.txn([], [put], [put])) }
  }

  @Test func `who deletes all keys from one on may put some of them too`() throws {
    let member = try Harness()
    let put = (2, Request.put("b", "1"))
    let all = (3, Request.get("a", end: "\0"))
    let answer = try member.call(.txn, Request.txn([], [all, put]))
    #expect(answer.revision == 2)
    #expect(try member.call(.range, Request.get("b")).number(4) == 1)
    _ = try member.call(.txn, Request.txn([], [put, all]))
    #expect(try member.call(.range, Request.get("b")).number(4) == 0)
  }

  @Test func `a put cannot keep what its transaction deletes before`() throws {
    let member = try Harness()
    _ = try member.call(.put, Request.put("b", "1"))
    let all = (3, Request.get("a", end: "\0"))
    let nested = (4, Request.txn([], [all]))
    for kept in [5, 6] {
      let put = (2, Request.put("b", "") + Request.make((kept, .number(1))))
      for delete in [all, nested] {
        #expect(throws: Failure.keyNotFound) {
          try member.call(.txn, Request.txn([], [delete, put]))
        }
      }
    }
    let found = try member.call(.range, Request.get("b"))
    #expect(found.revision == 2)
    #expect(found.message(2).text(5) == "1")
  }

  @Test func `an unknown order or target leaves keys in theirs`() throws {
    let member = try Harness()
    for (key, value) in [("a", "2"), ("b", "1")] {
      _ = try member.call(.put, Request.put(key, value))
    }
    for (order, target) in [(7, 4), (1, 9), (0, 9)] as [(Int64, Int64)] {
      let found = try member.call(
        .range,
        Request.get("a", end: "z") + Request.make((5, .number(order)), (6, .number(target))))
      #expect(found.messages(2).map { $0.text(1) } == ["a", "b"])
    }
  }

  @Test func `a transaction is checked as a whole before anything is written`() throws {
    let member = try Harness { $0.txnOperationsMax = 3 }
    let put = (2, Request.put("a", "1"))
    let future = (1, Request.get("a") + Request.make((4, .number(99))))
    let cases: [([(Int, [UInt8])], Failure)] = [
      ([put, future], .futureRevision),
      ([put, (2, Request.put("b", "", lease: 4))], .leaseNotFound),
      ([put, (2, Request.put("b", "") + Request.make((5, .number(1))))], .keyNotFound),
      ([put, (2, Request.put("", ""))], .emptyKey),
      ([put, put, put, put], .tooManyOperations),
      ([put, (4, Request.txn([], [put, put]))], .tooManyOperations),
    ]
    for (ops, failure) in cases {
      #expect(throws: failure) { try member.call(.txn, Request.txn([], ops)) }
    }
    #expect(throws: Failure.keyNotFound) { try member.call(.txn, Request.make((2, .text("")))) }
    #expect(try member.call(.range, Request.get("a")).number(4) == 0)
  }
}
