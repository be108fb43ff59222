/// A part of a YAML document.
public indirect enum Node: Equatable, Sendable {
  /// `isQuoted`: written in quotes or as a block, so that it is text whatever it looks like.
  case scalar(String, isQuoted: Bool)
  case sequence([Node])
  case mapping([Pair])

  public struct Pair: Equatable, Sendable {
    public var key: String
    public var value: Node
    /// Where the key stands, from 1.
    public var line: Int
  }

  /// Whether it stands for nothing: `key:`, `~` or `null`.
  public var isNull: Bool {
    guard case .scalar(let text, false) = self else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }
}

/// Why a document cannot be read.
public struct YAMLError: Error, Equatable, Sendable {
  public var text: String
  /// From 1.
  public var line: Int
}

enum Limits {
  /// Mappings and sequences inside one another.
  static let depth = 32
  /// Scalars, mappings and sequences of a document.
  static let nodes = 100_000
}
