import Basics
import TLS
import Testing

@Suite struct `Signing keys` {
  static func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

  /// Made with openssl for these tests alone.
  static let ec256 = bytes(
    """
    -----BEGIN PRIVATE KEY-----
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgP7d/c+jJrPTEZDvq
    RYAwoyQ2ySI12saOY5zp8JmndXWhRANCAASsCjUSEifeZlS/Y3ZegaN6u13ziLZJ
    yfi2md6R5HkguqAwHhFWAjdFqNKHsDMvtc1UCkn+DIoYhBgOPmiXTYPt
    -----END PRIVATE KEY-----
    """)
  static let ec256Public = bytes(
    """
    -----BEGIN PUBLIC KEY-----
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErAo1EhIn3mZUv2N2XoGjertd84i2
    Scn4tpnekeR5ILqgMB4RVgI3RajSh7AzL7XNVApJ/gyKGIQYDj5ol02D7Q==
    -----END PUBLIC KEY-----
    """)
  static let rsa = bytes(
    """
    -----BEGIN PRIVATE KEY-----
    MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQDEbkpEtzInJzJc
    112mpvDwgFb/+azFssffQXYCya1FbjyjIJPrhNHr7otBO6fmVe3NLzFoFbiWMVD2
    4hQEQIP4oeHpXknf1eb5dV1ShV694J8wJA4k5yXPsPZCZd4+1Jq4UX0bqZAVmgk6
    4EXzcPnmG+jWz5Waj9x5+lWSYP4KdsDL2UbwecX7KCBLqGfzCmV3nsFiKDeg7nFl
    2Arh2J25MPVOSsDtR3Ah6aVxkERgWQGCpijEarX/+T/rhWw61pZqmSIyVZLXclXL
    3bzeeUCMYDWU7M40vNLfsjN7oDDsedlF6/BxBuEQ5Cp0ImNlDLdPtMGUc1ebbUqP
    1yLG/xNfAgMBAAECggEAYGPclvasqjDeUleukYpHHkVkK805nnPaB7CIN9r+Z10u
    bUAdxgtRtaxDclnTTMCq5i572J8cCrudhuCuwN1lxTqu8IT/zFKbOpuAlW9z68oP
    Y6C1vh8dW1rzpOZ3Fi7e04bNVScyWJ9TWyxVtx2fy26zpcGMoKFqqAKTPjbRQpFh
    ueS3OMrA0r+d8BPsJbW6DSgvQZwEhn+/GqQaMDz3CibddJoxBVbU6WqPz7+XCJed
    DavFM+7m7dNGEygELXFBw9UINHzef0O2RT7DChDmfQnDtsH5+trH4vQt5cl7lgX5
    La8IDRBbdS5YL3zCP0Jel4Uz5sSs7KmCXW8uQ/bHgQKBgQDzj9ziIHvxKAeITwGq
    jK9CxAHL+2CYU+USkukvld+3uEQv656Mj3ejbOU+78FOggrky/m5IPElE1QHWFU5
    TuR0kDdJuiPkLH72PpmjSws7Hw6v7srBPPD0MjbOvm956Rp0DV6g6Fsx3dh3rUxW
    DQGQ+YSwzHNlAdRafWFF6qBvgQKBgQDOdkWYlBEAu90e2mc060ZE+9G/iBl5JJqd
    FyrStnvwZyDTo38TlenLyij2332DG2AkIVz7K2J1WRhgNb/Q/4JDoMRasj16yAUl
    +6zpRSHsjzkygdcjXZxdXEAYIhSTf4Z8p6P+6C/x6RuZo6v+8YyrW8gRi7EYW2p3
    F3F1htby3wKBgDFxau2cmoyCC8VoBHaSyKFNGPBHv3wsy7vRhvTZ/+hTx8PSmQT/
    utG6MW9tTFibnYqEvdUPEuTr34r+K47OrSHchNy6pL6VKdDjNF0pxsXhsCGW4CIK
    NP/dkbK2hfrBj1UvwZ34jUq6Nk9VJsHxMfg0LvOVDXfbvzf/a9e9oYQBAoGAayBZ
    Kjshu2S+7iRays2NL3wOMDhZJ0+D3iDIOn8vPeT01nuOE0aFAhXKPZZnFKEeuICL
    M1QmiUcKa9lXxwTcvWRsnbbASbYBXd0BsiQJ3ynNftR6IcKPwK1+IEeGr6XKzWFa
    qYgmYHoYtRaExwrkd4FvBRObd0zvqA2E9HtbircCgYBoZsCXL5Y8Uiyl1+HP2kAl
    lOEpjOIksA09+vu8qRS//Ippgyv9RAkyxYw2cIS61Yr0nT9p9f5iqwSsmCY9uA6K
    422I/M6UAoJs9dLdu6Ftol9eCpEVRPsVtO2FGDKwTP2rtKKTAwNlElZphqL8+Zrp
    0DuCk9W8wv0cW4GoJMu7Og==
    -----END PRIVATE KEY-----
    """)
  static let rsaPublic = bytes(
    """
    -----BEGIN PUBLIC KEY-----
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxG5KRLcyJycyXNddpqbw
    8IBW//msxbLH30F2AsmtRW48oyCT64TR6+6LQTun5lXtzS8xaBW4ljFQ9uIUBECD
    +KHh6V5J39Xm+XVdUoVeveCfMCQOJOclz7D2QmXePtSauFF9G6mQFZoJOuBF83D5
    5hvo1s+Vmo/cefpVkmD+CnbAy9lG8HnF+yggS6hn8wpld57BYig3oO5xZdgK4did
    uTD1TkrA7UdwIemlcZBEYFkBgqYoxGq1//k/64VsOtaWapkiMlWS13JVy9283nlA
    jGA1lOzONLzS37Ize6Aw7HnZRevwcQbhEOQqdCJjZQy3T7TBlHNXm21Kj9cixv8T
    XwIDAQAB
    -----END PUBLIC KEY-----
    """)

  static func key(_ method: SigningMethod) throws -> SigningKey {
    switch method {
    case .hs256, .hs384, .hs512:
      try SigningKey.read(method, privateKey: bytes("a secret"), publicKey: nil)
    case .es256, .es384, .es512:
      try SigningKey.read(method, privateKey: ec256, publicKey: ec256Public)
    default: try SigningKey.read(method, privateKey: rsa, publicKey: rsaPublic)
    }
  }

  @Test(arguments: [
    SigningMethod.hs256, .hs384, .hs512, .rs256, .rs384, .rs512, .ps256, .ps384, .ps512, .es256,
  ]) func `sign what they verify`(method: SigningMethod) throws {
    let key = try Self.key(method)
    #expect(key.canSign)
    let signature = try #require(key.sign(Self.bytes("text")))
    #expect(key.verifies(signature, over: Self.bytes("text")))
    #expect(!key.verifies(signature, over: Self.bytes("texts")))
    #expect(!key.verifies([], over: Self.bytes("text")))
    for place in [0, signature.count / 2, signature.count - 1] {
      var broken = signature
      broken[place] ^= 1
      #expect(!key.verifies(broken, over: Self.bytes("text")))
    }
    #expect(!key.verifies(signature + [0], over: Self.bytes("text")))
  }

  @Test func `with the public half alone only verify`() throws {
    for method in [SigningMethod.rs256, .ps384, .es256] {
      let signature = try #require(try Self.key(method).sign(Self.bytes("text")))
      let key = try SigningKey.read(
        method, privateKey: nil,
        publicKey: method == .es256 ? Self.ec256Public : Self.rsaPublic)
      #expect(!key.canSign)
      #expect(key.sign(Self.bytes("text")) == nil)
      #expect(key.verifies(signature, over: Self.bytes("text")))
    }
  }

  /// RFC 7515, appendix A.1.
  @Test func `make the signature of the standard's example`() throws {
    let secret: [UInt8] = [
      3, 35, 53, 75, 43, 15, 165, 188, 131, 126, 6, 101, 119, 123, 166, 143, 90, 179, 40, 230, 240,
      84, 201, 40, 169, 15, 132, 178, 210, 80, 46, 191, 211, 251, 90, 146, 210, 6, 71, 239, 150,
      138, 180, 195, 119, 98, 61, 34, 61, 46, 33, 114, 5, 46, 79, 8, 192, 205, 154, 245, 103, 208,
      128, 163,
    ]
    let text =
      "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0"
      + "dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    let key = try SigningKey.read(.hs256, privateKey: secret, publicKey: nil)
    let wanted: [UInt8] = [
      116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77,
      105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
    ]
    #expect(key.sign(Self.bytes(text)) == wanted)
  }

  @Test func `have to be there, to be keys, and to fit`() throws {
    #expect(throws: SigningKeyError.missing) {
      try SigningKey.read(.rs256, privateKey: nil, publicKey: nil)
    }
    #expect(throws: SigningKeyError.missing) {
      try SigningKey.read(.hs256, privateKey: [], publicKey: Self.rsaPublic)
    }
    #expect(throws: SigningKeyError.unreadable) {
      try SigningKey.read(.rs256, privateKey: Self.bytes("no key"), publicKey: nil)
    }
    #expect(throws: SigningKeyError.unreadable) {
      try SigningKey.read(.rs256, privateKey: Self.ec256, publicKey: nil)
    }
    #expect(throws: SigningKeyError.unreadable) {
      try SigningKey.read(.es384, privateKey: Self.ec256, publicKey: nil)
    }
    #expect(throws: SigningKeyError.unreadable) {
      try SigningKey.read(.rs256, privateKey: Self.rsa, publicKey: Self.ec256Public)
    }
  }

  @Test func `secret bytes are as many as asked and never the same`() {
    #expect(secretBytes(16).count == 16)
    #expect(secretBytes(16) != secretBytes(16))
  }
}
