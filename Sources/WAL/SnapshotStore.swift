internal import Basics
public import Raft

/// The `.snap` files: one for each snapshot of the state machine that the log can start from.
/// etcd: server/etcdserver/api/snap.
public struct SnapshotStore<D: Disk>: Sendable {
  let disk: D
  let directory: String

  /// `directory` exists.
  public init(_ disk: D, directory: String) {
    self.disk = disk
    self.directory = directory
  }

  private static func name(_ term: Term, _ index: LogIndex) -> String {
    Log<D>.name(term.rawValue, index.rawValue).dropLast(4) + ".snap"
  }

  /// Writes the file for `snapshot`, under its name only when it is whole; it is durable when this
  /// returns.
  public func save(_ snapshot: Snapshot) throws(DiskError) {
    var members: [UInt8] = []
    Proto.append(snapshot.metadata.confState, to: &members)
    var metadata: [UInt8] = []
    Proto.append(0x0a, members, to: &metadata)
    Proto.append(0x10, snapshot.metadata.index.rawValue, to: &metadata)
    Proto.append(0x18, snapshot.metadata.term.rawValue, to: &metadata)
    var body: [UInt8] = []
    if !snapshot.data.isEmpty { Proto.append(0x0a, snapshot.data, to: &body) }
    Proto.append(0x12, metadata, to: &body)
    var bytes: [UInt8] = []
    Proto.append(0x08, UInt64(crc32c(body)), to: &bytes)
    Proto.append(0x12, body, to: &bytes)
    let path = directory + "/" + Self.name(snapshot.metadata.term, snapshot.metadata.index)
    let file = try disk.open(path + ".tmp", creates: true)
    defer { disk.close(file) }
    try disk.write(file, at: 0, bytes.rawSpan)
    try disk.sync(file)
    try disk.rename(path + ".tmp", to: path)
    try disk.syncDirectory(directory)
  }

  /// The newest whole file among those that the log confirms; nil when there is none. One that
  /// cannot be read is renamed to `.broken` and told to `broken`.
  public func loadNewest(
    among markers: [SnapshotMarker], broken: (String) -> Void
  ) throws(DiskError) -> Snapshot? {
    let names = try names()
    let order = markers.sorted { ($0.index, $0.term) > ($1.index, $1.term) }
    for (place, marker) in order.enumerated() where place == 0 || order[place - 1] != marker {
      let name = Self.name(marker.term, marker.index)
      guard names.contains(name) else { continue }
      let path = directory + "/" + name
      if let snapshot = Self.decode(try read(path)), snapshot.metadata.index == marker.index,
        snapshot.metadata.term == marker.term
      {
        return snapshot
      }
      broken(path)
      try disk.rename(path, to: path + ".broken")
    }
    return nil
  }

  /// The names of all files, whole or not, oldest first.
  public func names() throws(DiskError) -> [String] {
    try disk.list(directory).filter { $0.hasSuffix(".snap") }
  }

  /// What the file `name` holds; nil when that is not what was written, or not under this name.
  public func load(_ name: String) throws(DiskError) -> Snapshot? {
    guard let found = Self.decode(try read(directory + "/" + name)),
      Self.name(found.metadata.term, found.metadata.index) == name
    else { return nil }
    return found
  }

  /// What the file that `marker` notes holds; nil when it is not whole. Throws when there is none.
  public func load(_ marker: SnapshotMarker) throws(DiskError) -> Snapshot? {
    try load(Self.name(marker.term, marker.index))
  }

  private func read(_ path: String) throws(DiskError) -> [UInt8] {
    let file = try disk.open(path, creates: false)
    defer { disk.close(file) }
    return try disk.read(file, at: 0, count: try disk.size(file))
  }

  /// Removes all but the newest `keep` files, and what an interrupted `save` left.
  public func purge(keep: Int) throws(DiskError) {
    precondition(keep > 0)
    let names = try disk.list(directory)
    for name in names.filter({ $0.hasSuffix(".snap") }).dropLast(keep) {
      try disk.remove(directory + "/" + name)
    }
    for name in names where name.hasSuffix(".snap.tmp") { try disk.remove(directory + "/" + name) }
  }

  static func decode(_ bytes: [UInt8]) -> Snapshot? {
    var outer = Proto.Reader(bytes.rawSpan, 0..<bytes.count)
    var sum: UInt64 = 0
    var body = 0..<0
    while let field = outer.next() {
      if case .number(1, let value) = field { sum = value }
      if case .bytes(2, let range) = field { body = range }
    }
    guard outer.isWhole, !body.isEmpty,
      UInt64(crc32c(bytes.rawSpan.extracting(body))) == sum
    else { return nil }
    var inner = Proto.Reader(bytes.rawSpan, body)
    var data: [UInt8] = []
    var metadata: SnapshotMetadata?
    while let field = inner.next() {
      if case .bytes(1, let range) = field { data = Array(bytes[range]) }
      if case .bytes(2, let range) = field { metadata = Self.metadata(bytes, range) }
    }
    guard inner.isWhole, let metadata else { return nil }
    return Snapshot(metadata: metadata, data: data)
  }

  private static func metadata(_ bytes: [UInt8], _ range: Range<Int>) -> SnapshotMetadata? {
    var reader = Proto.Reader(bytes.rawSpan, range)
    var metadata = SnapshotMetadata(
      confState: ConfState(voters: []), index: .zero, term: .zero)
    while let field = reader.next() {
      switch field {
      case .bytes(1, let range):
        guard let state = Proto.confState(bytes.rawSpan, range) else { return nil }
        metadata.confState = state
      case .number(2, let value): metadata.index = LogIndex(value)
      case .number(3, let value): metadata.term = Term(value)
      default: break
      }
    }
    return reader.isWhole ? metadata : nil
  }
}
