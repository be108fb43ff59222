internal import CLinux

/// The service manager that has started this process (systemd's `Type=notify`).
public enum Supervisor {
  /// Tells it `text`, such as `READY=1`. False: nobody asked to be told (`$NOTIFY_SOCKET`).
  public static func tell(_ text: String) throws(Errno) -> Bool {
    try check(unsafe martlet_notify(text)) == 1
  }
}
