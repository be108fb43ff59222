internal import Basics

extension V2Tree {
  /// How many events etcd's v2 history holds; the array of that many slots must be there.
  static let historyCapacity = 1000

  static let statNames = [
    "getsSuccess", "getsFail", "setsSuccess", "setsFail", "deleteSuccess", "deleteFail",
    "updateSuccess", "updateFail", "createSuccess", "createFail", "compareAndSwapSuccess",
    "compareAndSwapFail", "compareAndDeleteSuccess", "compareAndDeleteFail", "expireCount",
    "watchers",
  ]

  static let zeroStats = JSON.object(statNames.map { JSON.Field($0, .integer(0)) })

  /// What a snapshot's data is refused for.
  public enum SnapshotError: Error, Equatable {
    case malformed
  }

  /// The snapshot's data. etcd: v2store `store.Save`.
  public var snapshot: [UInt8] {
    let queue = JSON.object([
      .init("Events", .array(Array(repeating: .null, count: V2Tree.historyCapacity))),
      .init("Size", .integer(0)),
      .init("Front", .integer(0)),
      .init("Back", .integer(0)),
      .init("Capacity", .integer(UInt64(V2Tree.historyCapacity))),
    ])
    let history = JSON.object([
      .init("Queue", queue),
      .init("StartIndex", .integer(0)),
      .init("LastIndex", .integer(currentIndex)),
    ])
    return JSON.object([
      .init("Root", V2Tree.json(root)),
      .init("WatcherHub", .object([.init("EventHistory", history)])),
      .init("CurrentIndex", .integer(currentIndex)),
      .init("Stats", stats),
      .init("CurrentVersion", .integer(2)),
    ]).encoded
  }

  /// Reads a snapshot's data. etcd: v2store `store.Recovery`.
  public init(snapshot: [UInt8]) throws(SnapshotError) {
    let json: JSON
    do { json = try JSON.parse(snapshot) } catch { throw .malformed }
    guard let top = json["Root"], let index = json["CurrentIndex"]?.unsigned else {
      throw .malformed
    }
    self.init()
    root = try V2Tree.node(top)
    guard root.children != nil else { throw .malformed }
    currentIndex = index
    if let kept = json["Stats"], case .object = kept { stats = kept }
  }

  private static func json(_ node: Node) -> JSON {
    let children: JSON =
      if let children = node.children {
        .object(children.map { JSON.Field($0.name, json($0.node)) })
      } else { .null }
    return .object([
      .init("Path", .string(node.path)),
      .init("CreatedIndex", .integer(node.createdIndex)),
      .init("ModifiedIndex", .integer(node.modifiedIndex)),
      .init("ExpireTime", .string(node.expireTime)),
      .init("Value", .string(node.value)),
      .init("Children", children),
    ])
  }

  private static func node(_ json: JSON) throws(SnapshotError) -> Node {
    guard let path = json["Path"]?.text else { throw .malformed }
    var node = Node(
      path: path, createdIndex: json["CreatedIndex"]?.unsigned ?? 0,
      modifiedIndex: json["ModifiedIndex"]?.unsigned ?? 0)
    node.expireTime = json["ExpireTime"]?.text ?? V2Tree.permanent
    node.value = json["Value"]?.text ?? ""
    switch json["Children"] ?? .null {
    case .null: break
    case .object(let fields):
      var children: [Child] = []
      for field in fields {
        children.append(Child(name: field.name, node: try V2Tree.node(field.value)))
      }
      children.sort { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
      node.children = children
    default: throw .malformed
    }
    return node
  }
}
