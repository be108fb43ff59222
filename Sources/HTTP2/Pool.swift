internal import CNGHTTP2
internal import Glibc

/// Memory for the sessions of one thread. nghttp2 allocates several times a request; what it
/// frees is kept here by size, without a lock, up to `Limits.keptBytes` for each size.
///
/// A class because all sessions of a thread share it; each holds it to its own end.
@safe public final class Pool {
  enum Limits {
    /// Sizes are powers of two between these; anything larger is the C library's.
    static let smallest = 5
    static let largest = 12
    static let keptBytes = 256 << 10
  }

  /// In front of each block: its size, and the next of those that are free.
  @unsafe struct Block {
    var size: Int
    var next: UnsafeMutablePointer<Block>?
  }

  @unsafe struct Shelf {
    var first: UnsafeMutablePointer<Block>?
    var count = 0
  }

  static let headBytes = unsafe MemoryLayout<Block>.size

  /// One shelf for each power of two.
  typealias Shelves = UnsafeMutablePointer<Shelf>

  private let shelves: Shelves
  let memory: UnsafeMutablePointer<nghttp2_mem>

  public init() {
    unsafe shelves = .allocate(capacity: Limits.largest + 1)
    unsafe shelves.initialize(repeating: Shelf(), count: Limits.largest + 1)
    unsafe memory = .allocate(capacity: 1)
    unsafe memory.initialize(
      to: nghttp2_mem(
        mem_user_data: shelves,
        malloc: { count, shelves in unsafe take(count, shelves) },
        free: { block, shelves in unsafe give(block, shelves) },
        calloc: { count, size, shelves in
          let (total, isBeyond) = count.multipliedReportingOverflow(by: size)
          guard !isBeyond, let block = unsafe take(total, shelves) else { return nil }
          unsafe memset(block, 0, total)
          return unsafe block
        },
        realloc: { block, count, shelves in unsafe resize(block, count, shelves) }))
  }

  deinit {
    for i in 0...Limits.largest {
      while let block = unsafe shelves[i].first {
        unsafe shelves[i].first = block.pointee.next
        unsafe free(block)
      }
    }
    unsafe shelves.deallocate()
    unsafe memory.deallocate()
  }
}

private func shelf(for size: Int) -> Int {
  max(Pool.Limits.smallest, Int.bitWidth - (size - 1).leadingZeroBitCount)
}

private func take(_ count: Int, _ data: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  let (size, isBeyond) = max(count, 1).addingReportingOverflow(Pool.headBytes)
  guard !isBeyond else { return nil }
  let at = shelf(for: size)
  guard at <= Pool.Limits.largest else { return unsafe fresh(size) }
  let shelves = unsafe data!.assumingMemoryBound(to: Pool.Shelf.self)
  guard let block = unsafe shelves[at].first else { return unsafe fresh(1 << at) }
  unsafe shelves[at].first = block.pointee.next
  unsafe shelves[at].count -= 1
  return unsafe UnsafeMutableRawPointer(block + 1)
}

private func fresh(_ size: Int) -> UnsafeMutableRawPointer? {
  guard let memory = unsafe malloc(size) else { return nil }
  let block = unsafe memory.bindMemory(to: Pool.Block.self, capacity: 1)
  unsafe block.initialize(to: Pool.Block(size: size, next: nil))
  return unsafe UnsafeMutableRawPointer(block + 1)
}

private func give(_ memory: UnsafeMutableRawPointer?, _ data: UnsafeMutableRawPointer?) {
  guard let memory = unsafe memory else { return }
  let block = unsafe memory.assumingMemoryBound(to: Pool.Block.self) - 1
  let at = unsafe shelf(for: block.pointee.size)
  let shelves = unsafe data!.assumingMemoryBound(to: Pool.Shelf.self)
  guard at <= Pool.Limits.largest, unsafe shelves[at].count << at < Pool.Limits.keptBytes else {
    return unsafe free(block)
  }
  unsafe block.pointee.next = shelves[at].first
  unsafe shelves[at].first = block
  unsafe shelves[at].count += 1
}

private func resize(
  _ memory: UnsafeMutableRawPointer?, _ count: Int, _ data: UnsafeMutableRawPointer?
) -> UnsafeMutableRawPointer? {
  guard let memory = unsafe memory else { return unsafe take(count, data) }
  let block = unsafe memory.assumingMemoryBound(to: Pool.Block.self) - 1
  let room = unsafe block.pointee.size - Pool.headBytes
  if count <= room { return unsafe memory }
  guard let larger = unsafe take(count, data) else { return nil }
  unsafe larger.copyMemory(from: memory, byteCount: room)
  unsafe give(memory, data)
  return unsafe larger
}
