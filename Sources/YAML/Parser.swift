internal import CYAML

/// Reads the first document of `bytes`; nil when there is none. Anchors and aliases are refused:
/// a short document could stand for an enormous one.
public func parse(_ bytes: [UInt8]) throws(YAMLError) -> Node? {
  let parser = try Parser(bytes)
  return try parser.document()
}

/// Owns libyaml's parser, which points into a copy of the document.
@safe private final class Parser {
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let input: UnsafeMutableBufferPointer<UInt8>
  private var nodes = 0

  init(_ bytes: [UInt8]) throws(YAMLError) {
    unsafe parser = .allocate(capacity: 1)
    unsafe input = .allocate(capacity: bytes.count)
    _ = unsafe input.initialize(from: bytes)
    guard unsafe yaml_parser_initialize(parser) == 1 else {
      preconditionFailure("libyaml has no memory")
    }
    unsafe yaml_parser_set_input_string(parser, input.baseAddress, bytes.count)
  }

  deinit {
    unsafe yaml_parser_delete(parser)
    unsafe parser.deallocate()
    unsafe input.deallocate()
  }

  /// What an event says, without libyaml's memory.
  private enum Event {
    case scalar(String, isQuoted: Bool)
    case sequence, mapping, end, alias, document, stream, over
  }

  private func next() throws(YAMLError) -> (event: Event, line: Int) {
    var event = unsafe yaml_event_t()
    guard unsafe yaml_parser_parse(parser, &event) == 1 else {
      let problem = unsafe parser.pointee.problem.map { unsafe String(cString: $0) }
      throw unsafe YAMLError(
        text: problem ?? "cannot be read", line: Int(parser.pointee.problem_mark.line) + 1)
    }
    defer { unsafe yaml_event_delete(&event) }
    let line = unsafe Int(event.start_mark.line) + 1
    switch unsafe event.type {
    case YAML_SCALAR_EVENT:
      let scalar = unsafe event.data.scalar
      let bytes = unsafe UnsafeBufferPointer(start: scalar.value, count: scalar.length)
      let text = unsafe String(decoding: bytes, as: UTF8.self)
      return unsafe (
        .scalar(text, isQuoted: scalar.style != YAML_PLAIN_SCALAR_STYLE), line
      )
    case YAML_SEQUENCE_START_EVENT: return (.sequence, line)
    case YAML_MAPPING_START_EVENT: return (.mapping, line)
    case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT: return (.end, line)
    case YAML_ALIAS_EVENT: return (.alias, line)
    case YAML_DOCUMENT_START_EVENT: return (.document, line)
    case YAML_STREAM_END_EVENT, YAML_DOCUMENT_END_EVENT: return (.over, line)
    default: return (.stream, line)
    }
  }

  func document() throws(YAMLError) -> Node? {
    while true {
      let (event, _) = try next()
      if case .over = event { return nil }
      guard case .document = event else { continue }
      let (first, line) = try next()
      return try node(first, line, depth: 0)
    }
  }

  private func node(_ event: Event, _ line: Int, depth: Int) throws(YAMLError) -> Node {
    nodes += 1
    guard depth < Limits.depth, nodes < Limits.nodes else {
      throw YAMLError(text: "too large or too deep", line: line)
    }
    switch event {
    case .scalar(let text, let isQuoted): return .scalar(text, isQuoted: isQuoted)
    case .sequence:
      var items: [Node] = []
      while true {
        let (item, line) = try next()
        if case .end = item { return .sequence(items) }
        items.append(try node(item, line, depth: depth + 1))
      }
    case .mapping:
      var pairs: [Node.Pair] = []
      while true {
        let (key, line) = try next()
        if case .end = key { return .mapping(pairs) }
        guard case .scalar(let name, _) = key else {
          throw YAMLError(text: "a key must be text", line: line)
        }
        guard !pairs.contains(where: { $0.key == name }) else {
          throw YAMLError(text: "key \"\(name)\" already set in map", line: line)
        }
        let (value, valueLine) = try next()
        pairs.append(
          Node.Pair(key: name, value: try node(value, valueLine, depth: depth + 1), line: line))
      }
    case .alias: throw YAMLError(text: "anchors and aliases are not supported", line: line)
    case .end, .document, .stream, .over: throw YAMLError(text: "ends too early", line: line)
    }
  }
}
