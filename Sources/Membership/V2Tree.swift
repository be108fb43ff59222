internal import Basics

/// The v2 store as far as the 3.5 line still needs it: the tree that raft snapshots carry, with
/// members under `/0/members`, removed ones under `/0/removed_members` and the cluster's version
/// at `/0/version`. What else a snapshot holds (`/1`: the keys of the v2 API) is kept as it is;
/// the history of v2 watch events is not.
public struct V2Tree: Equatable, Sendable {
  /// A value or, when it has children, a directory.
  struct Node: Equatable, Sendable {
    var path: String
    var createdIndex: UInt64
    var modifiedIndex: UInt64
    var expireTime = V2Tree.permanent
    var value = ""
    /// In bytewise order of the names; nil for a value.
    var children: [Child]?
  }

  struct Child: Equatable, Sendable {
    var name: String
    var node: Node
  }

  /// Why an operation is refused. etcd: v2 error codes 100, 102, 104, 105.
  public enum Refusal: Error, Equatable {
    case keyNotFound, notAFile, notADirectory, nodeExists
  }

  /// Go's zero time: the node does not expire.
  static let permanent = "0001-01-01T00:00:00Z"

  var root: Node
  /// The number of changes so far.
  public internal(set) var currentIndex: UInt64
  var stats: JSON

  /// An empty store with the two namespaces of etcd.
  public init() {
    root = Node(path: "/", createdIndex: 0, modifiedIndex: 0, children: [])
    currentIndex = 0
    stats = V2Tree.zeroStats
    for name in ["0", "1"] {
      let space = Node(path: "/" + name, createdIndex: 0, modifiedIndex: 0, children: [])
      root.children?.append(Child(name: name, node: space))
    }
  }

  /// The value at `path`; nil when there is none.
  public func value(at path: String) -> String? {
    guard let node = node(at: path), node.children == nil else { return nil }
    return node.value
  }

  /// The names in the directory at `path`, in order; empty when there is none.
  public func names(at path: String) -> [String] {
    node(at: path)?.children?.map(\.name) ?? []
  }

  /// Puts a new value; refused when the path has a node.
  public mutating func create(_ path: String, value: String) throws(Refusal) {
    guard node(at: path) == nil else { throw .nodeExists }
    try place(path, value: value)
  }

  /// Puts a value, in place of the one that was there.
  public mutating func set(_ path: String, value: String) throws(Refusal) {
    if let node = node(at: path), node.children != nil { throw .notAFile }
    try place(path, value: value)
  }

  /// Changes the value of a node that exists.
  public mutating func update(_ path: String, value: String) throws(Refusal) {
    guard let node = node(at: path) else { throw .keyNotFound }
    guard node.children == nil else { throw .notAFile }
    currentIndex &+= 1
    let index = currentIndex
    V2Tree.edit(&root, V2Tree.components(path)[...]) { node in
      node.value = value
      node.modifiedIndex = index
    }
  }

  /// Removes a node and all below it.
  public mutating func remove(_ path: String) throws(Refusal) {
    guard node(at: path) != nil else { throw .keyNotFound }
    var parts = V2Tree.components(path)
    guard let name = parts.popLast() else { throw .keyNotFound }
    currentIndex &+= 1
    V2Tree.edit(&root, parts[...]) { node in
      node.children?.removeAll { $0.name == name }
    }
  }

  func node(at path: String) -> Node? {
    var node = root
    for name in V2Tree.components(path) {
      guard let child = node.children?.first(where: { $0.name == name }) else { return nil }
      node = child.node
    }
    return node
  }

  private mutating func place(_ path: String, value: String) throws(Refusal) {
    let parts = V2Tree.components(path)
    guard !parts.isEmpty else { throw .notAFile }
    for count in 1..<parts.count {
      let parent = "/" + parts[..<count].joined(separator: "/")
      if let node = node(at: parent), node.children == nil { throw .notADirectory }
    }
    let before = currentIndex
    currentIndex &+= 1
    let node = Node(
      path: "/" + parts.joined(separator: "/"), createdIndex: currentIndex,
      modifiedIndex: currentIndex, value: value)
    V2Tree.insert(node, parts[...], into: &root, directoryIndex: before)
  }

  private static func components(_ path: String) -> [String] {
    path.split(separator: "/", omittingEmptySubsequences: true).map(String.init)
  }

  /// Places `leaf`, making the directories on the way, which take the index before the change.
  private static func insert(
    _ leaf: Node, _ parts: ArraySlice<String>, into node: inout Node, directoryIndex: UInt64
  ) {
    guard let name = parts.first, var children = node.children else { return }
    let rest = parts.dropFirst()
    var index =
      children.firstIndex { !$0.name.utf8.lexicographicallyPrecedes(name.utf8) }
      ?? children.count
    let isThere = index < children.count && children[index].name == name
    if rest.isEmpty {
      if isThere {
        children[index].node = leaf
      } else {
        children.insert(Child(name: name, node: leaf), at: index)
      }
    } else {
      if !isThere {
        let path = node.path == "/" ? "/" + name : node.path + "/" + name
        let directory = Node(
          path: path, createdIndex: directoryIndex, modifiedIndex: directoryIndex, children: [])
        children.insert(Child(name: name, node: directory), at: index)
        index = children.firstIndex { $0.name == name } ?? index
      }
      insert(leaf, rest, into: &children[index].node, directoryIndex: directoryIndex)
    }
    node.children = children
  }

  private static func edit(
    _ node: inout Node, _ parts: ArraySlice<String>, _ body: (inout Node) -> Void
  ) {
    guard let name = parts.first else {
      body(&node)
      return
    }
    guard var children = node.children,
      let index = children.firstIndex(where: { $0.name == name })
    else { return }
    edit(&children[index].node, parts.dropFirst(), body)
    node.children = children
  }
}
