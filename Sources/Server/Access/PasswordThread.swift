internal import Auth
internal import Basics
internal import Bcrypt
internal import Platform
internal import Replica
internal import Services
internal import TLS

/// Hashes passwords, checks them and signs tokens: what takes milliseconds and is done for one
/// client at a time, away from the threads that serve all.
struct PasswordThread: ~Copyable {
  enum Limits {
    /// What may wait for one thread; more is refused.
    static let waitingMax = 256
  }

  private static let letters = [UInt8]("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
  private static let prefixLetters = 16

  private let shared: Shared
  private let number: Int
  private let cost: Int
  private let provider: TokenProvider

  /// `number`: its place among `Shared.passwords`.
  init(shared: Shared, number: Int, cost: Int, provider: TokenProvider) {
    self.shared = shared
    self.number = number
    self.cost = cost
    self.provider = provider
  }

  consuming func run() {
    var inbox: [PasswordInput] = []
    while true {
      shared.passwords[number].wait(until: .max, into: &inbox)
      for input in inbox {
        let answer = answer(input.work.kind)
        shared.loops[input.loop].box.post(.worked(input.work.id, answer))
      }
    }
  }

  private func answer(_ work: PasswordWork.Kind) -> PasswordAnswer {
    switch work {
    case .hash(let password):
      do throws(Bcrypt.HashError) {
        return .hashed(
          try Bcrypt.hash(password, salt: secretBytes(Bcrypt.saltBytes), cost: cost))
      } catch {
        switch error {
        case .tooLong:
          return .refused(Failure(.unknown, "bcrypt: password length exceeds 72 bytes"))
        case .zeroByte:
          return .refused(Failure(.invalidArgument, "martlet: a password holds a zero byte"))
        case .failed:
          return .refused(Failure(.unknown, "martlet: the password could not be hashed"))
        }
      }
    case .check(let password, let hash):
      guard Bcrypt.fits(password, hash: hash) else { return .refused(.authFailed) }
      return .fits(tokenPrefix: Self.prefix())
    case .sign(let who):
      guard case .signed(let tokens) = provider,
        let token = tokens.make(for: who, now: Int64(Clock.wall() / 1_000_000_000))
      else {
        return .refused(
          Failure(.unknown, "auth: token signing attempted with verify-only key"))
      }
      return .signed(token)
    }
  }

  /// Letters, each as likely as any other.
  private static func prefix() -> [UInt8] {
    let limit = UInt8(256 / letters.count * letters.count)
    var prefix: [UInt8] = []
    while prefix.count < prefixLetters {
      for byte in secretBytes(prefixLetters) where byte < limit && prefix.count < prefixLetters {
        prefix.append(letters[Int(byte) % letters.count])
      }
    }
    return prefix
  }
}

/// Work for a password thread, and the loop that waits for it.
struct PasswordInput: Sendable {
  var loop: Int
  var work: PasswordWork
}

extension IOLoop {
  /// Hands out work with passwords; what finds no room is refused.
  func handOut(_ passwords: [PasswordWork]) {
    for work in passwords {
      let box = shared.passwords[Int(work.id >> 4 % UInt64(shared.passwords.count))]
      guard !box.offer(PasswordInput(loop: number, work: work)) else { continue }
      shared.loops[number].box.post(.worked(work.id, .refused(.tooMany)))
    }
  }
}
