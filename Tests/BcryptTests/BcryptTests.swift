import Basics
import Bcrypt
import Testing

@Suite struct `Password hashes` {
  static func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }
  static let salt = [UInt8](0..<16)

  @Test func `fit their password and no other`() throws {
    let hash = try Bcrypt.hash(Self.bytes("secret"), salt: Self.salt, cost: 4)
    #expect(hash.count == 60)
    #expect(hash.starts(with: Self.bytes("$2a$04$")))
    #expect(Bcrypt.fits(Self.bytes("secret"), hash: hash))
    #expect(!Bcrypt.fits(Self.bytes("Secret"), hash: hash))
    #expect(!Bcrypt.fits(Self.bytes(""), hash: hash))
    #expect(try Bcrypt.fits([], hash: Bcrypt.hash([], salt: Self.salt, cost: 4)))
    let other = try Bcrypt.hash(Self.bytes("secret"), salt: Self.salt.reversed(), cost: 4)
    #expect(other != hash)
  }

  /// From the tests of other implementations of bcrypt: Openwall's and Go's.
  @Test(arguments: [
    ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
    ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
    ("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga"),
  ]) func `are those of other implementations`(password: String, hash: String) {
    #expect(Bcrypt.fits(Self.bytes(password), hash: Self.bytes(hash)))
    #expect(!Bcrypt.fits(Self.bytes(password + "x"), hash: Self.bytes(hash)))
  }

  /// libcrypt has a `$2a$` of its own for some passwords of eight-bit letters; Go has not.
  @Test func `are the plain algorithm's for eight-bit letters`() {
    let made = Self.bytes("$2b$05$/OK.fbVrR/bpIqNJ5ianF.CE5elHaaRJNKbrcb7OZQMCk2qhTnBg6")
    let found = Bcrypt.fits([0xff, 0xff, 0xa3, 0x33, 0x34], hash: made)
    let renamed = Self.bytes("$2a$") + made.dropFirst(4)
    #expect(Bcrypt.fits([0xff, 0xff, 0xa3, 0x33, 0x34], hash: renamed) == found)
  }

  @Test func `are not made of what would be cut`() throws {
    let long = [UInt8](repeating: 0x61, count: 73)
    #expect(throws: Bcrypt.HashError.tooLong) {
      try Bcrypt.hash(long, salt: Self.salt, cost: 4)
    }
    #expect(throws: Bcrypt.HashError.zeroByte) {
      try Bcrypt.hash([0x61, 0, 0x62], salt: Self.salt, cost: 4)
    }
    let hash = try Bcrypt.hash([0x61], salt: Self.salt, cost: 4)
    #expect(!Bcrypt.fits([0x61, 0, 0x62], hash: hash))
    let full = try Bcrypt.hash([UInt8](long.prefix(72)), salt: Self.salt, cost: 4)
    // As in Go, whose hashes may be of longer ones from before it refused them.
    #expect(Bcrypt.fits(long, hash: full))
  }

  @Test func `that are none fit nothing`() {
    for wrong in ["", "$", "$2a$", "secret", "$2a$99$" + String(repeating: ".", count: 53)] {
      #expect(!Bcrypt.fits(Self.bytes("secret"), hash: Self.bytes(wrong)), "\(wrong)")
    }
    let broken = "$2a$04$" + String(repeating: "!", count: 53)
    #expect(!Bcrypt.fits(Self.bytes("secret"), hash: Self.bytes(broken)))
    let old = "$1$04$" + String(repeating: ".", count: 54)
    #expect(!Bcrypt.fits(Self.bytes("secret"), hash: Self.bytes(old)))
  }
}
