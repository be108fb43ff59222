import Testing

@testable import YAML

@Suite struct ParserTests {
  func read(_ text: String) throws -> Node? { try parse(Array(text.utf8)) }

  func scalar(_ text: String, quoted: Bool = false) -> Node { .scalar(text, isQuoted: quoted) }

  @Test func `mappings, sequences and scalars come as written`() throws {
    let text = """
      # members
      name: 'node1'
      quota: 17179869184
      outputs: [stderr, "a,b"]
      block:
        auth: true
        empty:
      """
    #expect(
      try read(text)
        == .mapping([
          .init(key: "name", value: scalar("node1", quoted: true), line: 2),
          .init(key: "quota", value: scalar("17179869184"), line: 3),
          .init(
            key: "outputs", value: .sequence([scalar("stderr"), scalar("a,b", quoted: true)]),
            line: 4),
          .init(
            key: "block",
            value: .mapping([
              .init(key: "auth", value: scalar("true"), line: 6),
              .init(key: "empty", value: scalar(""), line: 7),
            ]), line: 5),
        ]))
    #expect(scalar("").isNull && scalar("~").isNull && !scalar("", quoted: true).isNull)
  }

  @Test func `an empty document is nothing`() throws {
    #expect(try read("") == nil)
    #expect(try read("# only this\n") == nil)
  }

  @Test(arguments: [
    ("name: [a\n", 2), ("a: 1\na: 2\n", 2), ("a: &x 1\nb: *x\n", 2), ("a: b: c\n", 1),
    (String(repeating: "[", count: 200), 1),
  ])
  func `what cannot be read says where`(text: String, line: Int) {
    let error = #expect(throws: YAMLError.self) { try read(text) }
    #expect(error?.line == line, "\(String(describing: error))")
  }
}
