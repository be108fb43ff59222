internal import CLinux
internal import Glibc

/// An epoll instance: readiness of descriptors, each under a token. One thread's.
public struct Poller: ~Copyable {
  public struct Interest: OptionSet, Sendable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = Interest(rawValue: 0x001)
    public static let write = Interest(rawValue: 0x004)
    public static let error = Interest(rawValue: 0x008)
    public static let hangUp = Interest(rawValue: 0x010)
  }

  public struct Event: Sendable {
    public var token: UInt64
    public var ready: Interest
  }

  private let epoll: Int32
  private var tokens = [UInt64](repeating: 0, count: 256)
  private var masks = [UInt32](repeating: 0, count: 256)

  private init(epoll: Int32) { self.epoll = epoll }
  deinit { close(epoll) }

  public static func open() throws(Errno) -> Poller {
    Poller(epoll: try check(martlet_epoll_create()))
  }

  public func add(_ fd: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 1, fd, interest.rawValue, token))
  }

  public func change(_ fd: Int32, _ interest: Interest, token: UInt64) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 3, fd, interest.rawValue, token))
  }

  public func remove(_ fd: Int32) throws(Errno) {
    _ = try check(martlet_epoll_control(epoll, 2, fd, 0, 0))
  }

  /// Waits up to `milliseconds` (-1: for ever) and appends what is ready, at most 256.
  public mutating func wait(
    milliseconds: Int32, into events: inout [Event]
  ) throws(Errno) {
    let count = try check(
      unsafe martlet_epoll_wait(epoll, &tokens, &masks, 256, milliseconds))
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
  public func signal() { _ = martlet_eventfd_signal(fd) }
  public func clear() { _ = martlet_eventfd_clear(fd) }
}
