import Auth
import Basics
import Testing

@Suite struct `Simple tokens` {
  static let second: UInt64 = 1_000_000_000

  @Test func `a token names the entry that gave it`() {
    #expect(TokenTable.token(prefix: name("abc"), index: 12) == name("abc.12"))
    #expect(TokenTable.index(of: name("abc.12")) == 12)
    for wrong in ["abc", "abc.", "abc.1.2", "abc.x", "abc.-1", "abc.18446744073709551616", ""] {
      #expect(TokenTable.index(of: name(wrong)) == nil, "\(wrong)")
    }
    #expect(TokenTable.index(of: name(".18446744073709551615")) == .max)
  }

  @Test func `it lives from its last use on`() {
    var table = TokenTable(lifetime: 10 * Self.second)
    table.assign(name("t.1"), to: name("alice"), now: 0)
    table.touch(name("t.1"), now: 9 * Self.second)
    table.expire(now: 19 * Self.second)
    #expect(table.user(of: name("t.1")) == name("alice"))
    table.expire(now: 21 * Self.second)
    #expect(table.user(of: name("t.1")) == nil)
    table.touch(name("t.1"), now: 21 * Self.second)
    #expect(table.count == 0)
  }

  @Test func `a user's tokens end together`() {
    var table = TokenTable(lifetime: 10 * Self.second)
    for index in 0..<20 {
      let user = index % 3 == 0 ? "alice" : "bob"
      table.assign(name("t.\(index)"), to: name(user), now: 0)
    }
    table.removeAll(of: name("alice"))
    #expect(table.count == 13)
    for index in 0..<20 {
      #expect((table.user(of: name("t.\(index)")) == nil) == (index % 3 == 0))
    }
    table.removeAll()
    #expect(table.count == 0)
  }

  @Test func `a full table forgets the token nearest to its end`() {
    var table = TokenTable(lifetime: 10 * Self.second, countMax: 2)
    table.assign(name("a.1"), to: name("alice"), now: 0)
    table.assign(name("b.2"), to: name("alice"), now: 1)
    table.touch(name("a.1"), now: 2)
    table.assign(name("c.3"), to: name("alice"), now: 3)
    #expect(table.user(of: name("b.2")) == nil)
    #expect(table.user(of: name("a.1")) != nil)
    #expect(table.user(of: name("c.3")) != nil)
  }
}

@Suite struct `Base64 texts` {
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
    ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
  ]) func `are those of RFC 4648`(plain: String, text: String) {
    #expect(Base64.encode(name(plain)) == name(text))
    #expect(Base64.decode(name(text)) == name(plain))
    let bare = name(text).filter { $0 != 0x3d }
    #expect(Base64.encode(name(plain), .url) == bare)
    #expect(Base64.decode(bare, .url) == name(plain))
  }

  @Test func `are told from what is none`() {
    for wrong in ["Zg", "Zg=", "Z===", "Zm9v\n", "Zm-_", "====", "Zg==Zg=="] {
      #expect(Base64.decode(name(wrong)) == nil, "\(wrong)")
    }
    #expect(Base64.decode(name("Zg=="), .url) == nil)
    #expect(Base64.decode(name("-_-_"), .url) == [0xfb, 0xff, 0xbf])
  }
}
