internal import CLinux
internal import Glibc

/// An epoll instance: readiness of descriptors, each under a token. One thread's.
public struct Poller: ~Copyable {
  /// epoll's bits.
  public struct Interest: OptionSet, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = Interest(rawValue: 0x001)
    public static let write = Interest(rawValue: 0x004)
    public static let error = Interest(rawValue: 0x008)
    public static let hangUp = Interest(rawValue: 0x010)
  }

  /// What a descriptor is ready for, by its token.
  public struct Event: Sendable {
    public var token: UInt64
    public var ready: Interest
  }

  private let epoll: Int32
  /// Events that one wait gives at most.
  private static let eventsMax = 256

  private var tokens = [UInt64](repeating: 0, count: Self.eventsMax)
  private var masks = [UInt32](repeating: 0, count: Self.eventsMax)

  private init(epoll: Int32) { self.epoll = epoll }
  deinit { close(epoll) }

  /// Makes one that watches nothing yet.
  public static func open() throws(Errno) -> Poller {
    Poller(epoll: try check(martlet_epoll_create()))
  }

  /// Watches a descriptor; its events carry `token`. Level-triggered.
  public func add(_ fd: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 1, fd, interest.rawValue, token))
  }

  /// Watches a descriptor for something else, or for errors alone when `interest` is empty.
  public func change(_ fd: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 3, fd, interest.rawValue, token))
  }

  /// Watches a descriptor no more.
  public func remove(_ fd: Int32) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 2, fd, 0, 0))
  }

  /// Waits up to `milliseconds` (-1: for ever) and appends what is ready, as much of it as one wait gives.
  public mutating func wait(
    milliseconds: Int32, into events: inout [Event]
  ) throws(Errno) {
    let count = try check(
      unsafe martlet_epoll_wait(epoll, &tokens, &masks, Int32(Self.eventsMax), milliseconds))
    for i in 0..<Int(count) {
      events.append(Event(token: tokens[i], ready: Interest(rawValue: masks[i])))
    }
  }
}

/// Wakes a poller from any thread.
public final class Wakeup: Sendable {
  public let fd: Int32
  public init() throws(Errno) { fd = try check(martlet_eventfd()) }
  deinit { close(fd) }
  /// Makes `fd` readable until `clear`. One system call.
  public func signal() { _ = martlet_eventfd_signal(fd) }
  /// Takes all signals so far.
  public func clear() { _ = martlet_eventfd_clear(fd) }
}
