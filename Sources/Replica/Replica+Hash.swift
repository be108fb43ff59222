internal import API
internal import Basics
internal import MVCC

/// A hash on its way, a bounded number of rows at a time.
struct HashJob<B: Backend> {
  enum Kind {
    /// Hash.
    case store
    /// HashKV.
    case revision(Int64)
    /// What a compaction finds, before its first step.
    case compaction(Int64, after: Int64)
  }

  enum Stage {
    case waiting
    /// HashKV and that of a compaction.
    case store(HashTask)
    /// Hash: the bucket, by its place in the order of names, and the key to go on from.
    case backend(bucket: Int, from: [UInt8], hash: UInt32)
  }

  var id: UInt64
  var kind: Kind
  var stage = Stage.waiting
}

/// The hash of what a compaction found: equal on all members, however late they are asked.
/// etcd: mvcc `KeyValueHash`.
public struct CompactionHash: Equatable, Sendable {
  public var hash: UInt32
  /// What was compacted to.
  public var revision: Int64
  /// What was compacted to before.
  public var compactRevision: Int64
}

extension Replica {
  /// How many hashes may wait; further ones are refused.
  static var hashesMax: Int { 64 }
  /// How many compactions' hashes are remembered. etcd: `hashStorageMaxSize`.
  static var compactionHashesMax: Int { 10 }

  /// Buckets in the order of their names, as bbolt walks through them.
  private static var bucketsByName: [Bucket] {
    [
      .alarm, .auth, .authRoles, .authUsers, .cluster, .key, .lease, .members, .membersRemoved,
      .meta,
    ]
  }

  /// Whether `hashStep` has something to do.
  public var isHashing: Bool {
    guard let first = hashJobs.first else { return false }
    if case .waiting = first.stage { return store.isReadyToHash }
    return true
  }
  public var hashCount: Int { hashJobs.count }
  /// Whether the first of them is of revisions.
  public var isHashingByRevision: Bool {
    guard let first = hashJobs.first else { return false }
    if case .store = first.kind { return false }
    return true
  }

  mutating func hash(_ id: UInt64, _ kind: HashJob<B>.Kind) throws(Failure) {
    guard hashJobs.count < Self.hashesMax else { throw .tooMany }
    hashJobs.append(HashJob(id: id, kind: kind))
  }

  /// Has the compaction that was just scheduled wait until what it finds is hashed. One that
  /// comes before another is done takes over from it and has no hash, as in etcd.
  mutating func hashBeforeCompaction(to revision: Int64, after previous: Int64) {
    isCompacting = false
    // The hash under way keeps its snapshot; the compaction waits for no other.
    let place = hashJobs.first.map { if case .waiting = $0.stage { 0 } else { 1 } } ?? 0
    hashJobs.insert(HashJob(id: 0, kind: .compaction(revision, after: previous)), at: place)
  }

  var isHashingCompaction: Bool {
    hashJobs.contains { if case .compaction = $0.kind { true } else { false } }
  }

  /// Goes on with the first hash over a bounded part of the store, and answers it when it is
  /// done. Between two applies, with at least the store's read lock.
  public mutating func hashStep(rowsMax: Int, into outcome: inout Outcome) {
    guard isHashing, var job = hashJobs.first else { return }
    do throws(Failure) {
      let isDone = try step(&job, rowsMax: rowsMax)
      guard isDone else {
        hashJobs[0] = job
        return
      }
      if case .compaction(let revision, _) = job.kind, case .store(let task) = job.stage {
        remember(task, ofCompaction: revision)
      } else {
        complete(job.id, response: response(to: job), &outcome)
      }
    } catch {
      complete(job.id, failure: error, &outcome)
    }
    hashJobs.removeFirst()
    hashReader.reset()
    if case .compaction = job.kind { isCompacting = store.isCompacting }
  }

  private mutating func remember(_ task: HashTask, ofCompaction revision: Int64) {
    compactionHashes.append(
      CompactionHash(
        hash: task.hash, revision: revision, compactRevision: task.compactRevision))
    if compactionHashes.count > Self.compactionHashesMax { compactionHashes.removeFirst() }
  }

  /// The answer to a HashKV of a revision that was compacted to, when its hash is remembered.
  func rememberedHash(_ revision: Int64) -> [UInt8]? {
    guard let found = compactionHashes.last(where: { $0.revision == revision }) else {
      return nil
    }
    var response: [UInt8] = []
    response.appendHeader(header)
    response.appendField(2, UInt64(found.hash))
    response.appendField(3, found.compactRevision)
    response.appendField(4, found.revision)
    return response
  }

  private mutating func step(_ job: inout HashJob<B>, rowsMax: Int) throws(Failure) -> Bool {
    switch job.stage {
    case .waiting:
      try begin(&job)
      return false
    case .store(var task):
      do {
        let isDone = try store.stepHash(&task, reader: &hashReader, rowsMax: rowsMax)
        job.stage = .store(task)
        return isDone
      } catch {
        throw Failure(error)
      }
    case .backend(let bucket, let from, let hash):
      return try stepBackend(&job, bucket, from, hash, rowsMax: rowsMax)
    }
  }

  private mutating func begin(_ job: inout HashJob<B>) throws(Failure) {
    do throws(StoreError) {
      switch job.kind {
      case .store:
        do { try hashReader.renew() } catch { throw .backend(error) }
        job.stage = .backend(bucket: 0, from: [], hash: 0)
      case .revision(let revision):
        job.stage = .store(try store.beginHash(revision, reader: &hashReader))
      case .compaction(let revision, let previous):
        job.stage = .store(
          try store.beginHash(ofCompaction: revision, after: previous, reader: &hashReader))
      }
    } catch {
      throw Failure(error)
    }
  }

  /// etcd: backend.Hash; what the commits of v2 internals move is left out.
  private func stepBackend(
    _ job: inout HashJob<B>, _ place: Int, _ from: [UInt8], _ before: UInt32, rowsMax: Int
  ) throws(Failure) -> Bool {
    let bucket = Self.bucketsByName[place]
    var hash = from.isEmpty ? crc32c([UInt8](bucket.name), seed: before) : before
    var left = rowsMax
    var next: [UInt8]?
    do {
      try hashReader.scan(bucket, from: from.rawSpan, to: RawSpan()) { key, value in
        guard left > 0 else {
          next = key.copied()
          return false
        }
        left -= 1
        if bucket == .meta,
          key.equals([UInt8]("consistent_index").rawSpan) || key.equals([UInt8]("term").rawSpan)
        {
          return true
        }
        hash = crc32c(value, seed: crc32c(key, seed: hash))
        return true
      }
    } catch {
      throw Failure(error)
    }
    if let next {
      job.stage = .backend(bucket: place, from: next, hash: hash)
      return false
    }
    let isLast = place + 1 == Self.bucketsByName.count
    job.stage = .backend(bucket: isLast ? place : place + 1, from: [], hash: hash)
    return isLast
  }

  private func response(to job: HashJob<B>) -> [UInt8] {
    var response: [UInt8] = []
    response.appendHeader(header)
    switch job.stage {
    case .waiting: break
    case .store(let task):
      response.appendField(2, UInt64(task.hash))
      response.appendField(3, task.compactRevision)
      // etcd 3.6: the revision that was hashed.
      response.appendField(4, task.revision)
    case .backend(_, _, let hash): response.appendField(2, UInt64(hash))
    }
    return response
  }
}
