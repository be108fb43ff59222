internal import Basics

/// The members that `--initial-cluster` names: `name=url,name=url,…`.
public struct InitialCluster: Equatable, Sendable {
  /// One member; its URLs in bytewise order.
  public struct Entry: Equatable, Sendable {
    public var name: String
    public var peerURLs: [String]
  }

  /// What the setting is refused for; `text` is etcd's message.
  public struct Invalid: Error, Equatable {
    public var text: String
  }

  /// In bytewise order of the names.
  public var entries: [Entry]

  /// etcd: `types.NewURLsMap`.
  public init(parsing setting: String) throws(Invalid) {
    entries = []
    for part in setting.split(separator: ",", omittingEmptySubsequences: true) {
      let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(halves[0])
      let url = halves.count > 1 ? String(halves[1]) : ""
      if let index = entries.firstIndex(where: { $0.name == name }) {
        entries[index].peerURLs.append(url)
      } else {
        entries.append(Entry(name: name, peerURLs: [url]))
      }
    }
    entries.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
    for index in entries.indices {
      entries[index].peerURLs = try checkedURLs(entries[index].peerURLs)
    }
  }

  /// The members with their derived IDs, in order of the IDs. Two of the same ID are refused.
  public func members(token: String, digest: Digest) throws(Invalid) -> [Member] {
    var members: [Member] = []
    for entry in entries {
      let id = memberID(
        peerURLs: entry.peerURLs, token: token, addedAt: nil, digest: digest)
      guard id != .none else { throw Invalid(text: "cannot use 0 as member id") }
      guard !members.contains(where: { $0.id == id }) else {
        throw Invalid(text: "member exists with identical ID \(Hex.text(id.rawValue))")
      }
      members.append(
        Member(
          id: id, name: entry.name, peerURLs: entry.peerURLs, clientURLs: [], isLearner: false))
    }
    return members.sorted { $0.id < $1.id }
  }
}

/// The URLs, trimmed and in bytewise order, when each has a known scheme, a host with a port
/// and no path. etcd: `types.NewURLs`.
public func checkedURLs(_ urls: [String]) throws(InitialCluster.Invalid) -> [String] {
  guard !urls.isEmpty else { throw InitialCluster.Invalid(text: "no valid URLs given") }
  var checked: [String] = []
  for url in urls {
    let text = trimmed(url)
    guard let mark = firstRange(of: "://", in: text) else {
      throw InitialCluster.Invalid(
        text: "URL scheme must be http, https, unix, or unixs: \(text)")
    }
    let scheme = text[..<mark].lowercased()
    let rest = text[text.index(mark, offsetBy: 3)...]
    switch scheme {
    case "unix", "unixs": break
    case "http", "https":
      let end = rest.firstIndex { $0 == "/" || $0 == "?" || $0 == "#" } ?? rest.endIndex
      let authority = rest[..<end]
      let host = authority.lastIndex(of: "@").map { authority[authority.index(after: $0)...] }
      guard hasPort(host ?? authority) else {
        throw InitialCluster.Invalid(
          text: "URL address does not have the form \"host:port\": \(text)")
      }
      guard end == rest.endIndex || rest[end] != "/" else {
        throw InitialCluster.Invalid(text: "URL must not contain a path: \(text)")
      }
    default:
      throw InitialCluster.Invalid(
        text: "URL scheme must be http, https, unix, or unixs: \(text)")
    }
    checked.append(scheme + text[mark...])
  }
  return sortedBytewise(checked)
}

private func trimmed(_ text: String) -> String {
  var part = text[...]
  while let first = part.first, first.isWhitespace { part = part.dropFirst() }
  while let last = part.last, last.isWhitespace { part = part.dropLast() }
  return String(part)
}

private func firstRange(of mark: String, in text: String) -> String.Index? {
  var index = text.startIndex
  while index < text.endIndex {
    if text[index...].hasPrefix(mark) { return index }
    index = text.index(after: index)
  }
  return nil
}

/// Whether `authority` is `host:port` or `[v6]:port`. Go: `net.SplitHostPort`.
private func hasPort(_ authority: Substring) -> Bool {
  guard let colon = authority.lastIndex(of: ":") else { return false }
  let host = authority[..<colon]
  let port = authority[authority.index(after: colon)...]
  guard port.allSatisfy({ $0.isASCII && $0.isNumber }) else { return false }
  if host.hasPrefix("[") { return host.hasSuffix("]") }
  return !host.contains(":")
}
