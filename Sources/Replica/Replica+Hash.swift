internal import API
internal import Basics
internal import MVCC

/// A hash on its way, a bounded number of rows at a time.
struct HashJob<B: Backend> {
  enum Stage {
    case waiting
    /// HashKV.
    case store(HashTask)
    /// Hash: the bucket, by its place in the order of names, and the key to go on from.
    case backend(bucket: Int, from: [UInt8], hash: UInt32)
  }

  var id: UInt64
  /// The revision of a HashKV; nil for a Hash.
  var revision: Int64?
  var stage = Stage.waiting
}

extension Replica {
  /// How many hashes may wait; further ones are refused.
  static var hashesMax: Int { 64 }

  /// Buckets in the order of their names, as bbolt walks through them.
  private static var bucketsByName: [Bucket] {
    [
      .alarm, .auth, .authRoles, .authUsers, .cluster, .key, .lease, .members, .membersRemoved,
      .meta,
    ]
  }

  /// Whether `hashStep` has something to do.
  public var isHashing: Bool { !hashJobs.isEmpty }
  public var hashCount: Int { hashJobs.count }
  /// Whether the first of them is a HashKV.
  public var isHashingByRevision: Bool { hashJobs.first?.revision != nil }

  mutating func hash(_ id: UInt64, revision: Int64?) throws(Failure) {
    guard hashJobs.count < Self.hashesMax else { throw .tooMany }
    hashJobs.append(HashJob(id: id, revision: revision))
  }

  /// Goes on with the first hash over at most `rowsMax` rows, and answers it when it is done.
  /// Between two applies, with at least the store's read lock.
  public mutating func hashStep(rowsMax: Int, into outcome: inout Outcome) {
    guard var job = hashJobs.first else { return }
    do throws(Failure) {
      let isDone = try step(&job, rowsMax: rowsMax)
      guard isDone else {
        hashJobs[0] = job
        return
      }
      complete(job.id, response: response(to: job), &outcome)
    } catch {
      complete(job.id, failure: error, &outcome)
    }
    hashJobs.removeFirst()
    hashReader.reset()
  }

  private mutating func step(_ job: inout HashJob<B>, rowsMax: Int) throws(Failure) -> Bool {
    switch job.stage {
    case .waiting:
      if let revision = job.revision {
        do { job.stage = .store(try store.beginHash(revision, reader: &hashReader)) } catch {
          throw Failure(error)
        }
      } else {
        do { try hashReader.renew() } catch { throw Failure(error) }
        job.stage = .backend(bucket: 0, from: [], hash: 0)
      }
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
