internal import Basics

extension Session.State {
  /// A place for a new stream.
  mutating func open(_ id: Int32) -> Int {
    openStreams += 1
    guard let place = freePlaces.popLast() else {
      streams.append(Session.Stream(id: id))
      return streams.count - 1
    }
    streams[place].id = id
    return place
  }

  /// Frees the places of streams whose end was handled, and forgets all events.
  mutating func clearEvents() {
    for place in closedPlaces {
      var queue: [UInt8] = []
      swap(&queue, &streams[place].queue)
      if queue.capacity <= Session.Limits.keptQueueBytes {
        queue.removeAll(keepingCapacity: true)
      } else {
        queue = []
      }
      streams[place] = Session.Stream()
      swap(&queue, &streams[place].queue)
      freePlaces.append(place)
    }
    closedPlaces.removeAll(keepingCapacity: true)
    events.removeAll(keepingCapacity: events.capacity <= Session.Limits.keptBytes / 16)
    guard !block.isOpen || block.start == fields.count else { return keepOpenBlock() }
    block.start = 0
    let isSmall = eventBytes.capacity <= Session.Limits.keptBytes * 2
    eventBytes.removeAll(keepingCapacity: isSmall)
    fields.removeAll(keepingCapacity: isSmall && fields.capacity <= Session.Limits.keptBytes / 16)
  }

  private mutating func keepOpenBlock() {
    let shift = Int(fields[block.start].name.start)
    fields.removeFirst(block.start)
    eventBytes.removeFirst(shift)
    block.start = 0
    for i in fields.indices {
      let (name, value) = (fields[i].name, fields[i].value)
      fields[i].name = Slice(start: Int(name.start) - shift, count: Int(name.count))
      fields[i].value = Slice(start: Int(value.start) - shift, count: Int(value.count))
    }
  }

  mutating func beginBlock(isRequest: Bool) {
    block = Session.Block()
    block.isOpen = true
    block.start = fields.count
    block.isTrailer = !isRequest
  }

  /// One field of the block. False: the block is too large.
  mutating func add(_ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>)
    -> Bool
  {
    block.size += name.count + value.count + 32
    guard block.size <= Session.Limits.headerBytes else {
      block.isOpen = false
      return false
    }
    unsafe block.check(name.span, value.span)
    if block.isTrailer || block.isMalformed { return true }
    let start = eventBytes.count
    unsafe eventBytes.append(contentsOf: name)
    unsafe eventBytes.append(contentsOf: value)
    fields.append(
      Session.Field(
        name: Slice(start: start, count: name.count),
        value: Slice(start: start + name.count, count: value.count)))
    return true
  }

  /// The header block of a stream is complete. False: it is not a request, or not trailers.
  mutating func endBlock(_ place: Session.StreamPlace, ends: Bool) -> Bool {
    block.isOpen = false
    let isTrailer = block.isTrailer
    guard !block.isMalformed, isTrailer ? ends : block.isWholeRequest else { return false }
    if !isTrailer { events.append(.headers(place, fields: block.start..<fields.count)) }
    if ends { events.append(.endOfStream(place)) }
    return true
  }

  mutating func add(_ place: Session.StreamPlace, _ bytes: UnsafeBufferPointer<UInt8>) {
    let start = eventBytes.count
    unsafe eventBytes.append(contentsOf: bytes)
    events.append(.data(place, bytes: Slice(start: start, count: bytes.count)))
  }
}
