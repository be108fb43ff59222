/// A seeded generator of pseudo-random numbers (xoshiro256**): the same seed, the same run.
/// Not for secrets.
public struct Random: RandomNumberGenerator, Sendable {
  private var a: UInt64
  private var b: UInt64
  private var c: UInt64
  private var d: UInt64

  public init(seed: UInt64) {
    // SplitMix64 spreads the seed, so that near seeds give far states (Vigna, 2015).
    var state = seed
    func spread() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
      return z ^ (z >> 31)
    }
    (a, b, c, d) = (spread(), spread(), spread(), spread())
  }

  public mutating func next() -> UInt64 {
    let scaled = b &* 5
    let result = (scaled << 7 | scaled >> 57) &* 9
    let shifted = b << 17
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= shifted
    d = d << 45 | d >> 19
    return result
  }

  /// A number from 0 up to but not including `bound`, which is at least 1.
  public mutating func next(below bound: Int) -> Int {
    precondition(bound > 0)
    return Int(next().multipliedFullWidth(by: UInt64(bound)).high)
  }

  /// True `numerator` times out of `denominator`.
  public mutating func chance(_ numerator: Int, in denominator: Int) -> Bool {
    next(below: denominator) < numerator
  }
}
