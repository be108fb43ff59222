internal import CLinux
internal import Glibc

/// A started thread, to be joined once: until then the system keeps its stack.
public struct Thread: Sendable {
  private let handle: pthread_t

  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(name: String, run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Starts `run` on a thread of its own. Ends the process when the system has none to give.
  public static func start(_ name: String, _ run: @escaping @Sendable () -> Void) -> Thread {
    Thread(handle: make(name, run))
  }

  /// The same for a thread that nobody waits for.
  public static func detach(_ name: String, _ run: @escaping @Sendable () -> Void) {
    pthread_detach(make(name, run))
  }

  private static func make(_ name: String, _ run: @escaping @Sendable () -> Void) -> pthread_t {
    var handle = pthread_t()
    let body = unsafe Unmanaged.passRetained(Body(name: name, run: run)).toOpaque()
    let code = unsafe pthread_create(
      &handle, nil,
      { argument in
        let body = unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue()
        unsafe martlet_name_thread(body.name)
        body.run()
        return nil
      }, body)
    precondition(code == 0, "no thread could be started")
    return handle
  }

  /// Lets all other threads go before the one that calls, for as long as it lives.
  public static func stepBack() {
    // On Linux the nice value is a thread's own.
    _ = setpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0, 19)
  }

  /// Waits until the thread has ended.
  public func join() { pthread_join(handle, nil) }
}
