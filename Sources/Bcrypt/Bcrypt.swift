internal import Basics
internal import CCrypt

/// Password hashes as etcd makes them: bcrypt, `$2a$cost$salt and hash`, 60 bytes. The owner of
/// libcrypt. Each call takes milliseconds to seconds, twice as long for each step of the cost.
public enum Bcrypt {
  /// The costs that there are. etcd: `bcrypt.MinCost`, `MaxCost`.
  public static let costs = 4...31
  public static let standardCost = 10
  /// Of a salt.
  public static let saltBytes = 16
  /// A longer password is not hashed: what follows would not count.
  public static let passwordBytesMax = 72

  public enum HashError: Error, Equatable, Sendable {
    case tooLong
    /// libcrypt takes a zero byte for the end: what follows it would not count.
    case zeroByte
    case failed
  }

  private static let letters = [UInt8](
    "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")

  /// A hash with `salt`, which nobody can guess.
  public static func hash(
    _ password: [UInt8], salt: [UInt8], cost: Int
  ) throws(HashError) -> [UInt8] {
    precondition(salt.count == saltBytes && costs.contains(cost))
    guard password.count <= passwordBytesMax else { throw .tooLong }
    guard !password.contains(0) else { throw .zeroByte }
    let setting = [0x30 + UInt8(cost / 10), 0x30 + UInt8(cost % 10), 0x24] + encoded(salt)
    guard let tail = crypt(password, setting) else { throw .failed }
    return [UInt8]("$2a$") + tail
  }

  /// Whether the password is the one that was hashed. In the time that the hash's cost asks for,
  /// wherever the two differ; at once when it is no hash.
  public static func fits(_ password: [UInt8], hash: [UInt8]) -> Bool {
    // The letter after $2 tells who made the hash; the algorithm is the same, since etcd's members
    // make none of the early wrong ones. libcrypt would compute some of its own for $2a$.
    guard hash.starts(with: [UInt8]("$2")), let start = hash.dropFirst(2).firstIndex(of: 0x24),
      start <= 3, hash.count == start + 57
    else { return false }
    let password = password.prefix(passwordBytesMax)
    guard !password.contains(0) else { return false }
    let wanted = hash[(start + 1)...]
    guard let found = crypt([UInt8](password), [UInt8](wanted.prefix(25))) else { return false }
    guard found.count == wanted.count else { return false }
    return zip(found, wanted).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
  }

  /// The cost, salt and hash that follow `$2b$`, for a setting of cost and salt.
  private static func crypt(_ password: [UInt8], _ setting: [UInt8]) -> [UInt8]? {
    let phrase = password.map { CChar(bitPattern: $0) } + [0]
    let whole = ([UInt8]("$2b$") + setting).map { CChar(bitPattern: $0) } + [0]
    var hash = [CChar](repeating: 0, count: 64)
    guard unsafe martlet_crypt(phrase, whole, &hash, hash.count) == 0 else { return nil }
    return hash.prefix { $0 != 0 }.dropFirst(4).map { UInt8(bitPattern: $0) }
  }

  /// bcrypt's own base64: 16 bytes as 22 letters, the highest bits first.
  private static func encoded(_ salt: [UInt8]) -> [UInt8] {
    var text: [UInt8] = []
    var bits: UInt32 = 0
    var count = 0
    for byte in salt {
      bits = bits << 8 | UInt32(byte)
      count += 8
      while count >= 6 {
        count -= 6
        text.append(letters[Int(bits >> UInt32(count) & 63)])
      }
    }
    if count > 0 { text.append(letters[Int(bits << UInt32(6 - count) & 63)]) }
    return text
  }
}
