internal import Basics

/// Why a disk did not do what it was asked.
public struct DiskError: Error, Equatable, Sendable {
  /// What was tried, on which file, and the system's word.
  public var text: String
  public var isFull: Bool
  public var isMissing: Bool
  public init(_ text: String, isFull: Bool, isMissing: Bool) {
    self.text = text
    self.isFull = isFull
    self.isMissing = isMissing
  }
}

/// What the log needs of a file system. Paths are as the owner gives them; a file is a small
/// number while it is open. Nothing is durable before `sync`, no name before `syncDirectory`.
public protocol Disk: Sendable {
  /// The names in a directory, ascending.
  func list(_ directory: String) throws(DiskError) -> [String]
  func makeDirectory(_ path: String) throws(DiskError)
  /// Opens for reading and writing; `creates` makes the file and empties one that is there.
  func open(_ path: String, creates: Bool) throws(DiskError) -> Int32
  func close(_ file: Int32)
  func size(_ file: Int32) throws(DiskError) -> Int
  /// Reads up to `count` bytes; fewer only at the end of the file.
  func read(_ file: Int32, at offset: Int, count: Int) throws(DiskError) -> [UInt8]
  func write(_ file: Int32, at offset: Int, _ bytes: RawSpan) throws(DiskError)
  func truncate(_ file: Int32, to count: Int) throws(DiskError)
  /// fdatasync.
  func sync(_ file: Int32) throws(DiskError)
  func rename(_ from: String, to: String) throws(DiskError)
  func remove(_ path: String) throws(DiskError)
  func syncDirectory(_ path: String) throws(DiskError)
}
