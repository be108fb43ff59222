import Platform
import Testing

@Suite struct PlatformTests {
  @Test func `a mailbox hands over everything in order and wakes its thread`() {
    let box = Mailbox<Int>(limit: 10_000)
    let sender = Thread.start("sender") { for i in 0..<5000 { box.post(i) } }
    var seen: [Int] = []
    var batch: [Int] = []
    while seen.count < 5000 {
      box.wait(until: Clock.monotonic() + 10_000_000_000, into: &batch)
      #expect(!batch.isEmpty)
      seen += batch
    }
    sender.join()
    #expect(seen == Array(0..<5000))
  }

  @Test func `a full or closed mailbox refuses what may be refused`() {
    let box = Mailbox<Int>(limit: 2)
    #expect(box.offer(1) && box.offer(2))
    #expect(!box.offer(3))
    var batch: [Int] = []
    box.drain(into: &batch)
    #expect(batch == [1, 2])
    box.close()
    #expect(!box.offer(4))
    box.wait(until: .max, into: &batch)
    #expect(batch.isEmpty)
  }

  @Test func `a poller reports a wake-up once until it is signalled again`() throws {
    var poller = try Poller.open()
    let wakeup = try Wakeup()
    try poller.add(wakeup.fd, .read, token: 7)
    var events: [Poller.Event] = []
    wakeup.signal()
    wakeup.signal()
    try poller.wait(milliseconds: 1000, into: &events)
    #expect(events.map(\.token) == [7])
    wakeup.clear()
    events = []
    try poller.wait(milliseconds: 0, into: &events)
    #expect(events.isEmpty)
  }

  @Test func `a port in use is refused`() throws {
    let first = try Socket.listen(host: "127.0.0.1", port: 0)
    let port = first.port
    #expect(throws: Errno.addressInUse) {
      _ = try Socket.listen(host: "127.0.0.1", port: port)
    }
  }

  @Test func `a caller by IPv4 has an address of IPv4 wherever it is taken`() throws {
    let listener = try Socket.listen(host: "", port: 0)
    let caller = try Socket.connect(address: "127.0.0.1", port: listener.port)
    let found = try accept(on: listener.fd)
    #expect(found.address == "127.0.0.1")
    #expect(found.name.hasPrefix("127.0.0.1:"))
    #expect(caller.failure == nil)
  }

  @Test func `a Unix socket is listened on and called`() throws {
    let path = "/tmp/martlet-\(Clock.monotonic()).sock"
    defer { try? FileSystem.remove(path) }
    #expect(throws: Errno.self) { _ = try Socket.connect(path: path) }
    let listener = try Socket.listen(path: path)
    let caller = try Socket.connect(path: path)
    let found = try accept(on: listener.fd)
    #expect(found.address.isEmpty && found.name == "@")
    #expect(caller.failure == nil)
  }

  /// What the next connection is called.
  func accept(on listener: Int32) throws -> (address: String, name: String) {
    var poller = try Poller.open()
    try poller.add(listener, .read, token: 0)
    var events: [Poller.Event] = []
    try poller.wait(milliseconds: 5000, into: &events)
    guard let socket = try Socket.accept(on: listener) else { return ("nobody", "nobody") }
    return (socket.peerAddress, socket.peerName)
  }

  @Test func `the clock goes forward`() {
    let before = Clock.monotonic()
    #expect(Clock.monotonic() >= before)
    #expect(Clock.wall() > 1_700_000_000_000_000_000)
    #expect(Process.residentBytes() > 0)
    #expect(Process.descriptors().open > 0)
  }
}
