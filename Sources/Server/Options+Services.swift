internal import Config
internal import MVCC
internal import Services

// What the options come to for modules that do not know them.

extension Limits {
  /// The services' limits as the flags have them.
  init(_ options: Options) {
    self.init()
    requestBytesMax = options.requestBytesMax
    txnOperationsMax = options.txnOperationsMax
    electionTimeout = UInt64(options.electionMilliseconds) * 1_000_000
    watch.progressIntervalNanoseconds = options.progressNotifyNanoseconds
    watch.fragmentBytes = messageBytesMax
  }
}

extension Options {
  /// How long a request may wait, whoever waits for it: a client, a follower that has asked its
  /// leader, a leader that hands over. etcd: `ServerConfig.ReqTimeout`.
  var requestNanoseconds: UInt64 { Limits(self).requestTimeout }
}

extension AutoCompactor.Mode {
  /// Nil: off.
  init?(_ option: Options.AutoCompaction) {
    switch option {
    case .off: return nil
    case .periodic(let nanoseconds): self = .periodic(nanoseconds: nanoseconds)
    case .revision(let keep): self = .revision(keep: keep)
    }
  }
}
