internal import Basics
internal import Bolt
internal import MVCC
internal import Platform

/// The rows of a bbolt file, for one that only reads.
final class BoltBackend: Backend {
  let path: String
  private let fd: Int32
  /// Without what follows the last page.
  private let contentBytes: Int

  /// `fd` stays the caller's and is open for longer than this.
  init(path: String, fd: Int32, contentBytes: Int) {
    self.path = path
    self.fd = fd
    self.contentBytes = contentBytes
  }

  /// The file, its meta pages checked. `progress` is called with the bytes that were read so far.
  func open(progress: @escaping (Int) -> Void) throws(BoltError) -> BoltFile {
    let fd = fd
    var done = 0
    let source = BoltSource(size: contentBytes) { offset, count, bytes throws(BoltError) in
      do throws(Errno) {
        let found = try FileSystem.read(fd, at: offset, count: count)
        guard found.count == count else { throw Errno.ended }
        bytes += found
      } catch {
        throw BoltError(page: nil, "cannot be read at offset \(offset): \(error)")
      }
      done += count
      progress(done)
    }
    return try BoltFile.open(source)
  }

  func makeReader() throws(BackendError) -> Reader {
    do throws(BoltError) {
      var file = try open { _ in }
      let buckets = try file.buckets()
      return Reader(path, file, buckets)
    } catch {
      throw .corrupt("\(path): \(error.text)")
    }
  }

  func commit(_ batch: WriteBatch) throws(BackendError) {
    throw .failed("\(path) is only read")
  }
  func sizes() -> (total: Int, inUse: Int) { (contentBytes, contentBytes) }
  func defragment() throws(BackendError) { throw .failed("\(path) is only read") }

  /// Reads a bucket from its beginning each time: for whole scans, and buckets with few rows.
  final class Reader: BackendReader {
    private let path: String
    private var file: BoltFile
    private let buckets: [BoltBucket]

    init(_ path: String, _ file: consuming BoltFile, _ buckets: [BoltBucket]) {
      self.path = path
      self.file = file
      self.buckets = buckets
    }

    func renew() {}
    func reset() {}

    func get(
      _ bucket: Bucket, _ key: RawSpan, into bytes: inout [UInt8]
    ) throws(BackendError) -> Bool {
      var isFound = false
      try scan(bucket, from: key, to: RawSpan()) { found, value in
        isFound = found.equals(key)
        if isFound { bytes.append(contentsOf: value) }
        return false
      }
      return isFound
    }

    func scan(
      _ bucket: Bucket, from: RawSpan, to: RawSpan, _ body: (RawSpan, RawSpan) -> Bool
    ) throws(BackendError) {
      let name = [UInt8](bucket.name)
      guard let found = buckets.first(where: { $0.name == name }) else { return }
      do throws(BoltError) {
        try file.scan(found) { key, value in
          if key.compare(from) < 0 { return true }
          if to.byteCount > 0, key.compare(to) >= 0 { return false }
          return body(key, value)
        }
      } catch {
        throw .corrupt("\(path): \(error.text)")
      }
    }
  }
}
