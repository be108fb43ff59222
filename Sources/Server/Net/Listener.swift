internal import Config

/// A bound socket and what is served to those who come by it.
struct Listener: Sendable {
  enum Role: String, Sendable { case client, peer }

  let fd: Int32
  /// As it was asked for.
  let url: String
  let role: Role
  /// Nil: in clear text.
  let files: TLSFiles?
}
