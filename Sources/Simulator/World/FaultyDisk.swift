public import Basics
public import WAL

/// A disk in memory that forgets what was not synced, tears, fails and fills up, as it is told.
/// Used by one thread.
public final class FaultyDisk: Disk, @unchecked Sendable {
  // Never shared: a simulation or a test drives one disk on one thread.

  /// What a crash leaves of that which was not synced.
  public enum Survival {
    case everything
    case nothing
    /// Each sector of each write, each change of a name or size by chance.
    case byChance(Random)
    /// The first so many bytes of what was written to each file, in order.
    case bytes(Int)
  }

  private static let sectorBytes = 512

  private enum Change {
    case write(offset: Int, bytes: [UInt8])
    case truncate(count: Int)
  }

  private final class Node {
    let isDirectory: Bool
    var bytes: [UInt8] = []
    var durableBytes: [UInt8] = []
    var changes: [Change] = []
    /// Ascending by name.
    var names: [(name: String, node: Node)] = []
    var durableNames: [(name: String, node: Node)] = []
    /// Changes of names that are one to the journal.
    var nameChanges: [[(name: String, node: Node?)]] = []
    init(isDirectory: Bool) { self.isDirectory = isDirectory }
  }

  private var root = Node(isDirectory: true)
  private var open: [Node?] = []
  public private(set) var calls = 0
  public private(set) var writes = 0
  public private(set) var syncs = 0
  /// The number of the call that fails, counted from 1; what it writes is half done.
  public var failingCall: Int?
  /// Whether no call after the failing one succeeds either: the power is gone.
  public var failsForGood = false
  /// Whether syncs do nothing: what is written is then caught under way by a crash.
  public var ignoresSyncs = false
  /// How many bytes all files may have together.
  public var capacity = Int.max

  public init() {}

  public var openCount: Int { open.count { $0 != nil } }

  // MARK: What tests do to it

  /// Ends all use, keeps of the unsynced what `survival` says, and works again.
  public func crash(_ survival: Survival) {
    var survival = survival
    Self.crash(root, &survival)
    open = []
    failingCall = nil
    failsForGood = false
    ignoresSyncs = false
    capacity = .max
  }

  /// Ends all use as a killed process does: what it wrote is there, but not durable.
  public func kill() {
    open = []
    failingCall = nil
    failsForGood = false
    ignoresSyncs = false
    capacity = .max
  }

  private static func crash(_ node: Node, _ survival: inout Survival) {
    if node.isDirectory {
      var names = node.durableNames
      for unit in node.nameChanges {
        guard keeps(&survival) else { break }
        for change in unit { set(change.name, change.node, in: &names) }
      }
      node.names = names
      node.durableNames = names
      node.nameChanges = []
      for entry in names { crash(entry.node, &survival) }
      return
    }
    var bytes = node.durableBytes
    var left = Int.max
    if case .bytes(let count) = survival { left = count }
    for change in node.changes {
      switch change {
      case .truncate(let count):
        if keeps(&survival) { resize(&bytes, count) }
      case .write(let offset, let data):
        var at = 0
        while at < data.count {
          let sector = min(data.count, ((offset + at) / sectorBytes + 1) * sectorBytes - offset)
          let count = min(sector - at, left)
          if count > 0, keeps(&survival) {
            put(data[at..<at + count], at: offset + at, in: &bytes)
          }
          left -= count
          at = sector
        }
      }
    }
    node.bytes = bytes
    node.durableBytes = bytes
    node.changes = []
  }

  private static func keeps(_ survival: inout Survival) -> Bool {
    switch survival {
    case .everything, .bytes: return true
    case .nothing: return false
    case .byChance(var random):
      let result = random.chance(1, in: 2)
      survival = .byChance(random)
      return result
    }
  }

  public func contents(_ path: String) -> [UInt8] { find(path)?.bytes ?? [] }

  /// Replaces a file's bytes for good.
  public func set(_ path: String, _ bytes: [UInt8]) {
    guard let node = find(path) else { return }
    node.bytes = bytes
    node.durableBytes = bytes
    node.changes = []
  }

  /// Makes a file that holds `bytes`, for good, with all directories on its way.
  public func plant(_ path: String, _ bytes: [UInt8]) {
    let node = Node(isDirectory: false)
    var directory = root
    let parts = path.split(separator: "/").map(String.init)
    for part in parts.dropLast() {
      let next = directory.names.first { $0.name == part }?.node ?? Node(isDirectory: true)
      Self.set(part, next, in: &directory.names)
      Self.set(part, next, in: &directory.durableNames)
      directory = next
    }
    Self.set(parts[parts.count - 1], node, in: &directory.names)
    Self.set(parts[parts.count - 1], node, in: &directory.durableNames)
    node.bytes = bytes
    node.durableBytes = bytes
  }

  /// A disk with the same contents, all of them durable.
  public func copy() -> FaultyDisk {
    let disk = FaultyDisk()
    disk.root = Self.copy(root)
    return disk
  }

  private static func copy(_ node: Node) -> Node {
    let result = Node(isDirectory: node.isDirectory)
    result.bytes = node.bytes
    result.durableBytes = node.bytes
    result.names = node.names.map { ($0.name, copy($0.node)) }
    result.durableNames = result.names
    return result
  }

  // MARK: Disk

  public func list(_ directory: String) throws(DiskError) -> [String] {
    guard let node = find(directory) else { throw missing(directory) }
    return node.names.map(\.name)
  }

  public func makeDirectory(_ path: String) throws(DiskError) {
    try call("make \(path)")
    guard find(path) == nil else { return }
    try change(path, to: Node(isDirectory: true))
  }

  public func open(_ path: String, creates: Bool) throws(DiskError) -> Int32 {
    try call("open \(path)")
    let node: Node
    if let found = find(path) {
      node = found
      if creates {
        node.changes.append(.truncate(count: 0))
        node.bytes = []
      }
    } else {
      guard creates else { throw missing(path) }
      node = Node(isDirectory: false)
      try change(path, to: node)
    }
    open.append(node)
    return Int32(open.count - 1)
  }

  public func close(_ file: Int32) {
    // A file of before a crash may be closed late.
    if open.indices.contains(Int(file)) { open[Int(file)] = nil }
  }

  public func size(_ file: Int32) throws(DiskError) -> Int { open[Int(file)]!.bytes.count }

  public func read(_ file: Int32, at offset: Int, count: Int) throws(DiskError) -> [UInt8] {
    try call("read")
    let bytes = open[Int(file)]!.bytes
    return Array(bytes[min(offset, bytes.count)..<min(offset + count, bytes.count)])
  }

  public func write(_ file: Int32, at offset: Int, _ bytes: RawSpan) throws(DiskError) {
    let node = open[Int(file)]!
    var data = bytes.copied()
    var failure: DiskError?
    let room = capacity == .max ? .max : capacity - used() + node.bytes.count - offset
    if data.count > room {
      data = Array(data.prefix(max(room, 0)))
      failure = DiskError("write: no space left on device", isFull: true, isMissing: false)
    }
    do throws(DiskError) { try call("write") } catch {
      // Half of it, to the end of a sector: a sector is written whole or not at all.
      let half = (offset + data.count / 2) / Self.sectorBytes * Self.sectorBytes - offset
      data = Array(data.prefix(max(half, 0)))
      failure = error
    }
    writes += 1
    node.changes.append(.write(offset: offset, bytes: data))
    Self.put(data[...], at: offset, in: &node.bytes)
    if let failure { throw failure }
  }

  public func truncate(_ file: Int32, to count: Int) throws(DiskError) {
    try call("truncate")
    let node = open[Int(file)]!
    node.changes.append(.truncate(count: count))
    Self.resize(&node.bytes, count)
  }

  public func sync(_ file: Int32) throws(DiskError) {
    try call("sync")
    syncs += 1
    guard !ignoresSyncs else { return }
    let node = open[Int(file)]!
    // Change by change: a copy of all bytes would cost the file's size each time.
    for change in node.changes {
      switch change {
      case .truncate(let count): Self.resize(&node.durableBytes, count)
      case .write(let offset, let data): Self.put(data[...], at: offset, in: &node.durableBytes)
      }
    }
    node.changes = []
  }

  public func rename(_ from: String, to: String) throws(DiskError) {
    try call("rename \(from)")
    guard let node = find(from) else { throw missing(from) }
    let (directory, name) = split(from)
    let (target, newName) = split(to)
    guard let source = find(directory), let target = find(target), source === target else {
      throw missing(to)
    }
    let unit = [(name: name, node: Node?.none), (name: newName, node: node)]
    for change in unit { Self.set(change.name, change.node, in: &source.names) }
    source.nameChanges.append(unit)
  }

  public func remove(_ path: String) throws(DiskError) {
    try call("remove \(path)")
    guard find(path) != nil else { throw missing(path) }
    try change(path, to: nil)
  }

  public func syncDirectory(_ path: String) throws(DiskError) {
    try call("sync \(path)")
    guard let node = find(path) else { throw missing(path) }
    guard !ignoresSyncs else { return }
    node.durableNames = node.names
    node.nameChanges = []
  }

  // MARK: Within

  private func call(_ what: String) throws(DiskError) {
    calls += 1
    guard let failingCall else { return }
    if calls == failingCall || failsForGood && calls > failingCall {
      throw DiskError("\(what): input/output error", isFull: false, isMissing: false)
    }
  }

  private func missing(_ path: String) -> DiskError {
    DiskError("\(path): no such file or directory", isFull: false, isMissing: true)
  }

  private func find(_ path: String) -> Node? {
    var node = root
    for part in path.split(separator: "/") {
      guard let next = node.names.first(where: { $0.name == part })?.node else { return nil }
      node = next
    }
    return node
  }

  private func split(_ path: String) -> (directory: String, name: String) {
    let parts = path.split(separator: "/").map(String.init)
    return (parts.dropLast().joined(separator: "/"), parts[parts.count - 1])
  }

  private func change(_ path: String, to node: Node?) throws(DiskError) {
    let (directory, name) = split(path)
    guard let parent = find(directory) else { throw missing(directory) }
    Self.set(name, node, in: &parent.names)
    parent.nameChanges.append([(name, node)])
  }

  public var bytesUsed: Int { used() }

  /// The files below a directory, ascending.
  public func paths(under directory: String) -> [String] {
    var paths: [String] = []
    func walk(_ node: Node, _ path: String) {
      for (name, child) in node.names {
        if child.isDirectory {
          walk(child, path + "/" + name)
        } else {
          paths.append(path + "/" + name)
        }
      }
    }
    if let node = find(directory) { walk(node, directory) }
    return paths
  }

  private func used() -> Int {
    func sum(_ node: Node) -> Int {
      node.bytes.count + node.names.reduce(0) { $0 + sum($1.node) }
    }
    return sum(root)
  }

  private static func set(
    _ name: String, _ node: Node?, in names: inout [(name: String, node: Node)]
  ) {
    names.removeAll { $0.name == name }
    guard let node else { return }
    names.insert((name, node), at: names.firstIndex { $0.name > name } ?? names.count)
  }

  private static func resize(_ bytes: inout [UInt8], _ count: Int) {
    if count < bytes.count {
      bytes.removeLast(bytes.count - count)
    } else {
      bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
    }
  }

  private static func put(_ data: ArraySlice<UInt8>, at offset: Int, in bytes: inout [UInt8]) {
    if bytes.count < offset + data.count { resize(&bytes, offset + data.count) }
    bytes.replaceSubrange(offset..<offset + data.count, with: data)
  }
}
