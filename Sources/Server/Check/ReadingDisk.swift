internal import Basics
internal import Platform
internal import WAL

/// The system's files for one that changes none of them.
struct ReadingDisk: Disk {
  private let disk = OSDisk(syncs: false)

  func list(_ directory: String) throws(DiskError) -> [String] { try disk.list(directory) }
  func open(_ path: String, creates: Bool) throws(DiskError) -> Int32 {
    guard !creates else { throw Self.refusal(path) }
    do throws(Errno) {
      return try FileSystem.openForReading(path)
    } catch {
      throw DiskError("open \(path): \(error)", isFull: false, isMissing: error == .missing)
    }
  }
  func close(_ file: Int32) { disk.close(file) }
  func size(_ file: Int32) throws(DiskError) -> Int { try disk.size(file) }
  func read(_ file: Int32, at offset: Int, count: Int) throws(DiskError) -> [UInt8] {
    try disk.read(file, at: offset, count: count)
  }
  func makeDirectory(_ path: String) throws(DiskError) { throw Self.refusal(path) }
  func write(_ file: Int32, at offset: Int, _ bytes: RawSpan) throws(DiskError) {
    throw Self.refusal("a file")
  }
  func truncate(_ file: Int32, to count: Int) throws(DiskError) { throw Self.refusal("a file") }
  func sync(_ file: Int32) throws(DiskError) {}
  func rename(_ from: String, to: String) throws(DiskError) { throw Self.refusal(from) }
  func remove(_ path: String) throws(DiskError) { throw Self.refusal(path) }
  func syncDirectory(_ path: String) throws(DiskError) {}

  private static func refusal(_ path: String) -> DiskError {
    DiskError("\(path) was opened for reading only", isFull: false, isMissing: false)
  }
}
