internal import Basics
internal import Raft

/// After the same entry every member knows the same configuration, also one that began from a
/// snapshot. Raft thesis §4.1; etcd: issue 13348 (a configuration lost at a restart).
struct ConfigurationAgreement {
  /// By the entry that made each, ascending.
  private var known: [(index: LogIndex, state: ConfState)] = []

  /// A member has this configuration after `index`.
  mutating func has(_ state: ConfState, at index: LogIndex, isFirst: Bool) -> String? {
    if isFirst {
      if known.last?.state != state { known.append((index, state)) }
      return nil
    }
    guard let expected = known.last(where: { $0.index <= index }) else { return nil }
    return expected.state == state ? nil : "two configurations after entry \(index.rawValue)"
  }
}
